//! Work on many documents, shared among the cores of the machine.

/// Fewer items are not worth a thread.
const ITEMS_MIN: usize = 64;
/// Threads that a load takes, at most.
const THREADS_MAX: usize = 8;

/// Works on a list in parts that follow each other, and puts what they give together in order.
pub(super) fn in_parts<T: Sync, R: Send>(items: &[T], work: impl Fn(&[T]) -> Vec<R> + Sync) -> Vec<R> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
    let threads = cores.min(items.len() / ITEMS_MIN).max(1);
    if threads == 1 {
        return work(items);
    }
    let work = &work;
    std::thread::scope(|scope| {
        let parts = items.chunks(items.len().div_ceil(threads));
        let running: Vec<_> = parts.map(|part| scope.spawn(move || work(part))).collect();
        let done = running.into_iter().map(|thread| thread.join());
        // A panic goes on where the work was asked for, as it would without threads.
        done.flat_map(|done| done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_stays() {
        let items: Vec<usize> = (0..1000).collect();
        let doubled = in_parts(&items, |part| part.iter().map(|item| item * 2).collect());
        assert!(doubled.iter().enumerate().all(|(at, item)| *item == at * 2) && doubled.len() == 1000);
        assert!(in_parts(&[] as &[usize], |part| part.to_vec()).is_empty());
    }
}
