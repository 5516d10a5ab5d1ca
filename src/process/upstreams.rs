//! The thread that looks after upstreams: it follows what serves, and ends with the process.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;

use crate::clock::Clock;
use crate::clock::wheel::Wheel;
use crate::engine::worker::Shared;
use crate::upstream::Care;

/// Ends the thread when it is dropped.
pub(super) struct LookingAfter {
    _until_dropped: oneshot::Sender<()>,
}

/// Starts the thread.
pub(super) fn look_after(shared: Arc<Shared>, clock_origin: Instant) -> io::Result<LookingAfter> {
    let (until_dropped, mut ended) = oneshot::channel::<()>();
    std::thread::Builder::new().name("upstreams".to_owned()).spawn(move || {
        let built =
            tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build_local(Default::default());
        let runtime = match built {
            Ok(runtime) => runtime,
            Err(error) => return tracing::error!(%error, "upstreams are not looked after"),
        };
        runtime.block_on(async {
            let wheel = Wheel::new();
            let turning = wheel.clone();
            tokio::task::spawn_local(async move { turning.run().await });
            let mut care = Care::new(wheel, Clock::System(clock_origin));
            loop {
                care.follow(&shared.current().upstreams);
                tokio::select! {
                    () = shared.swapped() => {}
                    _ = &mut ended => return,
                }
            }
        });
    })?;
    Ok(LookingAfter { _until_dropped: until_dropped })
}
