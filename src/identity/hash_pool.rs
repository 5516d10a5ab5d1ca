//! Threads for hash work, bounded in number and in queue.
//!
//! A password check takes tens of milliseconds and megabytes on purpose. It must not run on a request worker, and it
//! must not run without bound: at most one job per thread runs and at most [`QUEUE_MAX`] wait; a job that finds the
//! queue full is refused at once, so that the caller can answer 503. What it does not do: it is not fair between
//! clients; the throttle in front of it is what keeps one of them from filling it.

use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::SyncSender;
use std::sync::mpsc::sync_channel;

use tokio::sync::oneshot;

/// Most jobs that wait. At 50 ms each and two threads the last one waits under two seconds.
pub const QUEUE_MAX: usize = 64;

/// Most threads, whatever is asked for: each may hold 64 MiB while it hashes.
pub const THREADS_MAX: usize = 32;

/// The queue is full: broken, 503 with a short Retry-After.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy;

type Job = Box<dyn FnOnce() + Send>;

/// The pool, or another handle to it. Its threads end when the last one is dropped and the queue is empty.
#[derive(Debug, Clone)]
pub struct HashPool {
    queue: SyncSender<Job>,
}

impl HashPool {
    /// A pool with one thread per core.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn for_this_machine() -> std::io::Result<Self> {
        Self::new(std::thread::available_parallelism().map_or(1, usize::from), QUEUE_MAX)
    }

    /// A pool of `threads` (1 to [`THREADS_MAX`]) with room for `queue_max` waiting jobs.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn new(threads: usize, queue_max: usize) -> std::io::Result<Self> {
        Self::named("hash", threads, queue_max)
    }

    /// The same for other work that must not stand on a worker; `name` is what its threads are called.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn named(name: &str, threads: usize, queue_max: usize) -> std::io::Result<Self> {
        let (queue, jobs) = sync_channel(queue_max);
        let jobs = Arc::new(Mutex::new(jobs));
        for n in 0..threads.clamp(1, THREADS_MAX) {
            let jobs = Arc::clone(&jobs);
            std::thread::Builder::new().name(format!("{name}-{n}")).spawn(move || work(&jobs))?;
        }
        Ok(Self { queue })
    }

    /// Queues a job. Its result comes through the receiver; a receiver that is dropped before the job's turn takes the
    /// job out, and a job that panics closes the receiver without a result.
    ///
    /// # Errors
    /// [`Busy`] when [`QUEUE_MAX`] jobs wait already.
    pub fn try_submit<T, F>(&self, job: F) -> Result<oneshot::Receiver<T>, Busy>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let (reply, result) = oneshot::channel();
        let job = Box::new(move || {
            if !reply.is_closed() {
                // An error means that the client has gone meanwhile: nobody wants the result.
                let _ = reply.send(job());
            }
        });
        self.queue.try_send(job).map_err(|_| Busy)?;
        Ok(result)
    }
}

/// Runs jobs until the pool is dropped. The lock is held while waiting for a job, not while running one.
fn work(jobs: &Mutex<Receiver<Job>>) {
    loop {
        let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = next else {
            return;
        };
        // A job owns all it touches, so nothing half changed is seen after a panic; its reply was dropped with it.
        let _ = catch_unwind(AssertUnwindSafe(job));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn results_come_back() {
        let pool = HashPool::new(2, 8).unwrap();
        let results: Vec<_> = (0..8).map(|n| pool.try_submit(move || n * n).unwrap()).collect();
        let got: Vec<i32> = results.into_iter().map(|result| result.blocking_recv().unwrap()).collect();
        assert_eq!(got, [0, 1, 4, 9, 16, 25, 36, 49]);
    }

    #[test]
    fn a_full_queue_refuses_at_once() {
        let pool = HashPool::new(1, 2).unwrap();
        let (started, has_started) = channel();
        let (release, released) = channel::<()>();
        let running = pool
            .try_submit(move || {
                started.send(()).unwrap();
                released.recv().unwrap();
            })
            .unwrap();
        has_started.recv().unwrap();
        let waiting: Vec<_> = (0..2).map(|n| pool.try_submit(move || n).unwrap()).collect();
        assert_eq!(pool.try_submit(|| 9).unwrap_err(), Busy);
        release.send(()).unwrap();
        running.blocking_recv().unwrap();
        for (n, result) in waiting.into_iter().enumerate() {
            assert_eq!(result.blocking_recv().unwrap(), n);
        }
        assert_eq!(pool.try_submit(|| 9).unwrap().blocking_recv().unwrap(), 9);
    }

    #[test]
    fn a_job_that_nobody_waits_for_is_not_run_and_a_panic_ends_no_thread() {
        let pool = HashPool::new(1, 4).unwrap();
        let (release, released) = channel::<()>();
        let first = pool.try_submit(move || released.recv().unwrap()).unwrap();
        let (ran, has_run) = channel::<()>();
        drop(pool.try_submit(move || ran.send(())).unwrap());
        let broken = pool.try_submit(|| panic!("a broken job")).unwrap();
        release.send(()).unwrap();
        first.blocking_recv().unwrap();
        assert!(broken.blocking_recv().is_err());
        assert_eq!(pool.try_submit(|| 7).unwrap().blocking_recv(), Ok(7));
        assert!(has_run.try_recv().is_err());
    }
}
