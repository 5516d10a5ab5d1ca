//! Where records go: a worker collects lines and hands them over in batches to one writer thread.
//!
//! A slow or full disk never stops traffic: when the writer falls behind, batches are dropped and counted.
//! Only a record that is `required` waits until it was written and flushed.

use std::fs::{File, Metadata, OpenOptions};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

/// A batch is handed over when it is this large, and on every turn of the worker's flush timer.
pub const BATCH_BYTES: usize = 32 * 1024;
/// Batches that may wait for the writer.
const QUEUE_MAX: usize = 256;

/// Longest wait at the end for what is queued.
const STOP_MAX: Duration = Duration::from_secs(5);
/// Pause between two looks whether the writer has come to its end.
const STOP_PAUSE: Duration = Duration::from_millis(1);

/// Where the writer writes.
#[derive(Clone, Debug, PartialEq)]
pub enum To {
    Stdout,
    /// A file, renamed to `NAME.TIME.N` once it is larger than `rotate` bytes.
    File {
        path: PathBuf,
        rotate: u64,
    },
}

enum Job {
    Lines(String),
    /// Written and flushed to the operating system before the answer.
    Required(String, oneshot::Sender<bool>),
    Stop,
}

/// The sending end, shared by all workers.
#[derive(Clone)]
pub struct Sink {
    jobs: SyncSender<Job>,
    lost: Arc<AtomicU64>,
}

/// The writer thread; dropping does not stop it, [`Writer::stop`] does.
pub struct Writer {
    sink: Sink,
    thread: JoinHandle<()>,
}

impl Writer {
    /// Opens the destination and starts the thread.
    pub fn start(to: To) -> std::io::Result<Writer> {
        let mut output = Output::open(to)?;
        let (jobs, queue) = sync_channel(QUEUE_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let counted = lost.clone();
        let thread = std::thread::Builder::new()
            .name("records".into())
            .spawn(move || write_all(&queue, &mut output, &counted))?;
        Ok(Writer { sink: Sink { jobs, lost }, thread })
    }

    /// A handle for workers.
    pub fn sink(&self) -> Sink {
        self.sink.clone()
    }

    /// Writes what is queued and ends the thread; a disk that takes nothing is not waited for without end.
    pub fn stop(self) {
        let begun = Instant::now();
        let mut job = Job::Stop;
        while let Err(TrySendError::Full(again)) = self.sink.jobs.try_send(job) {
            if begun.elapsed() > STOP_MAX {
                return;
            }
            job = again;
            std::thread::sleep(STOP_PAUSE); // the queue is full, and tells nobody when it is not
        }
        while !self.thread.is_finished() && begun.elapsed() < STOP_MAX {
            std::thread::sleep(STOP_PAUSE); // a thread can be joined only without a bound
        }
    }
}

impl Sink {
    /// Hands lines over; never waits.
    pub fn write(&self, lines: String) {
        let sent = self.jobs.try_send(Job::Lines(lines));
        if let Err(TrySendError::Full(Job::Lines(lines)) | TrySendError::Disconnected(Job::Lines(lines))) = sent {
            self.lost.fetch_add(count(&lines), Ordering::Relaxed);
        }
    }

    /// Writes a line and answers whether it was written.
    pub async fn write_required(&self, line: String) -> bool {
        let (done, answer) = oneshot::channel();
        if self.jobs.try_send(Job::Required(line, done)).is_err() {
            return false;
        }
        answer.await.unwrap_or(false)
    }

    /// Records that could not be written since the start.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

/// How many records these lines are.
fn count(lines: &str) -> u64 {
    lines.matches('\n').count() as u64
}

fn write_all(queue: &Receiver<Job>, output: &mut Output, lost: &AtomicU64) {
    while let Ok(job) = queue.recv() {
        match job {
            Job::Lines(lines) => {
                if let Err(error) = output.write(&lines) {
                    lost.fetch_add(count(&lines), Ordering::Relaxed);
                    tracing::error!(%error, "records could not be written");
                }
            }
            Job::Required(line, done) => {
                let written = output.write(&line).and_then(|()| output.flush());
                if let Err(error) = &written {
                    tracing::error!(%error, "a required record could not be written");
                }
                let _ = done.send(written.is_ok());
            }
            Job::Stop => return,
        }
    }
}

enum Output {
    Stdout,
    File(Rotated),
}

/// A file that is renamed and begun anew when it has become too large.
struct Rotated {
    file: File,
    path: PathBuf,
    size: u64,
    rotate: u64,
    /// The file was renamed and no new one could be opened: `file` is still the renamed one.
    renamed: bool,
    /// Why it could not be rotated has been said, and holds on.
    failing: bool,
    /// The same of a file that is no longer at its path.
    lost_sight: bool,
}

impl Output {
    fn open(to: To) -> std::io::Result<Output> {
        match to {
            To::Stdout => Ok(Output::Stdout),
            To::File { path, rotate } => {
                let file = open_append(&path)?;
                let size = file.metadata()?.len();
                Ok(Output::File(Rotated {
                    file,
                    path,
                    size,
                    rotate,
                    renamed: false,
                    failing: false,
                    lost_sight: false,
                }))
            }
        }
    }

    fn write(&mut self, lines: &str) -> std::io::Result<()> {
        match self {
            Output::Stdout => std::io::stdout().lock().write_all(lines.as_bytes()),
            Output::File(file) => file.write(lines),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Output::Stdout => std::io::stdout().lock().flush(),
            Output::File(rotated) => rotated.file.sync_data(),
        }
    }
}

impl Rotated {
    fn write(&mut self, lines: &str) -> std::io::Result<()> {
        self.follow();
        if self.size > 0 && self.size + lines.len() as u64 > self.rotate {
            // A file that grows too large is better than lines that are lost.
            match self.rotate() {
                Ok(()) => self.failing = false,
                Err(error) if !std::mem::replace(&mut self.failing, true) => {
                    tracing::error!(%error, path = %self.path.display(), "the records' file cannot be rotated; it grows on");
                }
                Err(_) => {}
            }
        }
        self.file.write_all(lines.as_bytes())?;
        self.size += lines.len() as u64;
        Ok(())
    }

    /// Begins anew where somebody else has moved or removed the file, as `logrotate` does: what is written to a file
    /// without a name is lost. Until that can be, lines go where they went.
    fn follow(&mut self) {
        let is_ours = |found: &Metadata| {
            self.file.metadata().is_ok_and(|own| (own.dev(), own.ino()) == (found.dev(), found.ino()))
        };
        if self.renamed || std::fs::metadata(&self.path).is_ok_and(|found| is_ours(&found)) {
            return;
        }
        let opened = open_append(&self.path).and_then(|file| Ok((file.metadata()?.len(), file)));
        match opened {
            Ok((size, file)) => {
                (self.size, self.file) = (size, file);
                tracing::info!(path = %self.path.display(), "the records' file was moved or removed: a new one is begun");
            }
            Err(error) if !std::mem::replace(&mut self.lost_sight, true) => {
                tracing::error!(%error, path = %self.path.display(), "the records' file was moved or removed, and none can be made in its place");
                return;
            }
            Err(_) => return,
        }
        self.lost_sight = false;
    }

    fn rotate(&mut self) -> std::io::Result<()> {
        if !self.renamed {
            std::fs::rename(&self.path, unused_name(&self.path))?;
            self.renamed = true;
        }
        self.file = open_append(&self.path)?;
        (self.size, self.renamed) = (0, false);
        Ok(())
    }
}

/// A name beside `path` that no earlier rotation has taken.
fn unused_name(path: &Path) -> PathBuf {
    let stamp = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let mut number = 0;
    loop {
        let name = PathBuf::from(format!("{}.{stamp}.{number}", path.display()));
        if !name.exists() {
            return name;
        }
        number += 1;
    }
}

fn open_append(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_rotated_and_nothing_is_lost() {
        let folder = std::env::temp_dir().join(format!("gatewright-sink-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("records.jsonl");
        let writer = Writer::start(To::File { path, rotate: 100 }).unwrap();
        let sink = writer.sink();
        for number in 0..20 {
            sink.write(format!("{{\"number\":{number:020}}}\n"));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        assert!(runtime.block_on(sink.write_required("{\"last\":true}\n".into())));
        writer.stop();
        let files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        let lines: usize = files.iter().map(|file| std::fs::read_to_string(file).unwrap().lines().count()).sum();
        assert!(files.len() > 1, "{files:?}");
        assert_eq!(lines, 21);
        assert_eq!(sink.lost(), 0);
        std::fs::remove_dir_all(folder).unwrap();
    }

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("gatewright-sink-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn rotated(output: &Output) -> &Rotated {
        match output {
            Output::File(rotated) => rotated,
            Output::Stdout => panic!("not a file"),
        }
    }

    #[test]
    fn a_file_that_is_moved_or_removed_is_begun_anew() {
        let folder = folder("moved");
        let path = folder.join("records.jsonl");
        let mut output = Output::open(To::File { path: path.clone(), rotate: 1000 }).unwrap();
        output.write("first line\n").unwrap();
        std::fs::rename(&path, folder.join("moved")).unwrap();
        output.write("second line\n").unwrap();
        assert_eq!(std::fs::read_to_string(folder.join("moved")).unwrap(), "first line\n");
        std::fs::remove_file(&path).unwrap();
        output.write("third line\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "third line\n");
        // Where none can be made, lines go on to where they went.
        std::fs::rename(&path, folder.join("moved")).unwrap();
        std::fs::create_dir(&path).unwrap();
        output.write("fourth line\n").unwrap();
        assert_eq!(std::fs::read_to_string(folder.join("moved")).unwrap(), "third line\nfourth line\n");
        assert!(rotated(&output).lost_sight);
        std::fs::remove_dir(&path).unwrap();
        output.write("fifth line\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "fifth line\n");
        assert_eq!((rotated(&output).size, rotated(&output).lost_sight), (11, false));
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_file_that_was_renamed_is_not_renamed_again() {
        let folder = folder("reopen");
        let path = folder.join("records.jsonl");
        let mut output = Output::open(To::File { path: path.clone(), rotate: 10 }).unwrap();
        output.write("first line\n").unwrap();
        // As after a rename whose open failed: something that cannot be opened is in the way.
        std::fs::rename(&path, folder.join("rotated")).unwrap();
        if let Output::File(rotated) = &mut output {
            rotated.renamed = true;
        }
        std::fs::create_dir(&path).unwrap();
        output.write("second line\n").unwrap();
        assert!(path.is_dir() && rotated(&output).renamed, "what is in the way was renamed");
        std::fs::remove_dir(&path).unwrap();
        output.write("third line\n").unwrap();
        assert_eq!(std::fs::read_to_string(folder.join("rotated")).unwrap(), "first line\nsecond line\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "third line\n");
        assert!(!rotated(&output).renamed && !rotated(&output).failing);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
