//! The numbers of the process, in Prometheus' text format.
//!
//! A worker writes only its own cells, so that counting contends with nobody; a scrape adds them up.
//! Label sets are bounded: services by the policy files, fault codes by [`FAULT_CODES_MAX`].

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::custom::Custom;

/// Fault codes counted per worker; further ones become `other`.
pub const FAULT_CODES_MAX: usize = 1000;

/// Upper bounds of the duration histogram, in microseconds.
const BUCKETS_US: [u64; 12] =
    [250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 500_000, 2_500_000, 10_000_000];

/// One worker's numbers of one service, on cache lines of their own.
#[derive(Default)]
#[repr(align(128))]
struct Cell {
    /// Answers by status class, 1xx to 5xx.
    classes: [AtomicU64; 5],
    denied: AtomicU64,
    broken: AtomicU64,
    gone: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    duration_us: AtomicU64,
    buckets: [AtomicU64; BUCKETS_US.len() + 1],
}

/// The numbers of one service.
pub struct ServiceMetrics(Box<[Cell]>);

/// What happened to one request, in numbers.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    pub status: u16,
    /// `sent`, `denied`, `broken`, `gone`.
    pub word: &'static str,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub duration_us: u64,
}

impl ServiceMetrics {
    /// Counts one request of one worker.
    pub fn count(&self, worker: usize, outcome: Outcome) {
        let Some(cell) = self.0.get(worker) else { return };
        let add = |counter: &AtomicU64, by: u64| {
            // Only this worker writes the cell: a load and a store are enough and cheaper than an atomic add.
            counter.store(counter.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
        };
        if let Some(class) = cell.classes.get(usize::from(outcome.status / 100).saturating_sub(1)) {
            add(class, 1);
        }
        match outcome.word {
            "denied" => add(&cell.denied, 1),
            "broken" => add(&cell.broken, 1),
            "gone" => add(&cell.gone, 1),
            _ => {}
        }
        add(&cell.bytes_in, outcome.bytes_in);
        add(&cell.bytes_out, outcome.bytes_out);
        add(&cell.duration_us, outcome.duration_us);
        let bucket = BUCKETS_US.partition_point(|bound| *bound < outcome.duration_us);
        if let Some(bucket) = cell.buckets.get(bucket) {
            add(bucket, 1);
        }
    }

    fn sum(&self, of: impl Fn(&Cell) -> &AtomicU64) -> u64 {
        self.0.iter().map(|cell| of(cell).load(Ordering::Relaxed)).sum()
    }
}

/// Counts by service and fault code.
type Faults = HashMap<(Arc<str>, String), u64>;

/// One number of the process, or one for each value of a label.
struct Series {
    kind: &'static str,
    help: &'static str,
    /// By label, written as `{name="value"}`; empty without one.
    values: BTreeMap<String, u64>,
}

/// All numbers of the process.
pub struct Metrics {
    workers: usize,
    services: Mutex<BTreeMap<Arc<str>, Arc<ServiceMetrics>>>,
    faults: Box<[Mutex<Faults>]>,
    process: Mutex<BTreeMap<&'static str, Series>>,
    /// What policies count.
    pub custom: Custom,
}

impl Metrics {
    /// Numbers for so many workers.
    pub fn new(workers: usize) -> Metrics {
        let faults = (0..workers).map(|_| Mutex::default()).collect();
        Metrics { workers, services: Mutex::default(), faults, process: Mutex::default(), custom: Custom::default() }
    }

    /// How many workers count.
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// The numbers of a service; the same ones for the same name, also after a reload.
    pub fn service(&self, name: &Arc<str>) -> Arc<ServiceMetrics> {
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || Arc::new(ServiceMetrics((0..self.workers).map(|_| Cell::default()).collect()));
        services.entry(name.clone()).or_insert_with(make).clone()
    }

    /// Counts a fault by its code.
    pub fn fault(&self, worker: usize, service: &Arc<str>, code: &str) {
        let Some(faults) = self.faults.get(worker) else { return };
        let mut faults = faults.lock().unwrap_or_else(PoisonError::into_inner);
        let known = faults.len() < FAULT_CODES_MAX || faults.contains_key(&(service.clone(), code.to_owned()));
        let code = if known { code } else { "other" };
        *faults.entry((service.clone(), code.to_owned())).or_default() += 1;
    }

    /// Sets a number of the process: `kind` is `counter` or `gauge`.
    pub fn set(&self, name: &'static str, kind: &'static str, help: &'static str, value: u64) {
        self.series(name, kind, help, |values| {
            values.insert(String::new(), value);
        });
    }

    /// Adds to a number of the process.
    pub fn add(&self, name: &'static str, help: &'static str, by: u64) {
        self.series(name, "counter", help, |values| *values.entry(String::new()).or_default() += by);
    }

    /// Adds to a number of the process that has a label. Its values are literals of the program: they are bounded.
    pub fn add_labelled(&self, name: &'static str, help: &'static str, of: (&'static str, &'static str), by: u64) {
        let key = format!("{{{}=\"{}\"}}", of.0, of.1);
        self.series(name, "counter", help, |values| *values.entry(key).or_default() += by);
    }

    /// States a fact as a label of a number that is always 1; an older value of the label is forgotten.
    pub fn state(&self, name: &'static str, help: &'static str, of: (&'static str, &str)) {
        let key = format!("{{{}=\"{}\"}}", of.0, label(of.1));
        self.series(name, "gauge", help, |values| *values = BTreeMap::from([(key, 1)]));
    }

    /// Sets all values of a number with several labels; those that are not among them are forgotten.
    pub fn set_all<const N: usize>(
        &self,
        name: &'static str,
        help: &'static str,
        of: [&'static str; N],
        values: BTreeMap<[String; N], u64>,
    ) {
        let key = |labels: [String; N]| {
            let labels = of.iter().zip(&labels).map(|(of, value)| format!("{of}=\"{}\"", label(value)));
            format!("{{{}}}", labels.collect::<Vec<_>>().join(","))
        };
        let all = values.into_iter().map(|(labels, value)| (key(labels), value)).collect();
        self.series(name, "gauge", help, |values| *values = all);
    }

    fn series(
        &self,
        name: &'static str,
        kind: &'static str,
        help: &'static str,
        change: impl FnOnce(&mut BTreeMap<String, u64>),
    ) {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut process.entry(name).or_insert(Series { kind, help, values: BTreeMap::new() }).values);
    }

    /// Everything in Prometheus' text format, version 0.0.4.
    pub fn render(&self) -> String {
        let mut out = String::new();
        for (name, series) in self.process.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            head(&mut out, name, series.kind, series.help);
            for (of, value) in &series.values {
                let _ = writeln!(out, "{name}{of} {value}");
            }
        }
        let services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        render_requests(&services, &mut out);
        render_bytes(&services, &mut out);
        render_durations(&services, &mut out);
        self.render_faults(&mut out);
        self.custom.render(&mut out);
        out
    }

    fn render_faults(&self, out: &mut String) {
        let mut sums: BTreeMap<(Arc<str>, String), u64> = BTreeMap::new();
        for faults in &self.faults {
            for (key, count) in faults.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                *sums.entry(key.clone()).or_default() += count;
            }
        }
        head(out, "gatewright_faults_total", "counter", "Denied and broken requests by fault code.");
        for ((service, code), count) in sums {
            let (service, code) = (label(&service), label(&code));
            let _ = writeln!(out, "gatewright_faults_total{{service=\"{service}\",code=\"{code}\"}} {count}");
        }
    }
}

type Services = BTreeMap<Arc<str>, Arc<ServiceMetrics>>;

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

pub(super) fn label(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn render_requests(services: &Services, out: &mut String) {
    head(out, "gatewright_requests_total", "counter", "Requests by service and status class.");
    for (service, metrics) in services {
        for class in 0..5 {
            let count = metrics.sum(|cell| cell.classes.get(class).unwrap_or(&cell.gone));
            if count > 0 {
                let (service, class) = (label(service), class + 1);
                let _ =
                    writeln!(out, "gatewright_requests_total{{service=\"{service}\",status=\"{class}xx\"}} {count}");
            }
        }
    }
    head(out, "gatewright_outcomes_total", "counter", "Requests that were denied, broken or left by the client.");
    for (service, metrics) in services {
        let service = label(service);
        for (word, count) in [
            ("denied", metrics.sum(|cell| &cell.denied)),
            ("broken", metrics.sum(|cell| &cell.broken)),
            ("gone", metrics.sum(|cell| &cell.gone)),
        ] {
            let _ = writeln!(out, "gatewright_outcomes_total{{service=\"{service}\",outcome=\"{word}\"}} {count}");
        }
    }
}

fn render_bytes(services: &Services, out: &mut String) {
    head(out, "gatewright_body_bytes_total", "counter", "Body bytes received from and sent to clients.");
    for (service, metrics) in services {
        let service = label(service);
        for (word, count) in [("in", metrics.sum(|cell| &cell.bytes_in)), ("out", metrics.sum(|cell| &cell.bytes_out))]
        {
            let _ = writeln!(out, "gatewright_body_bytes_total{{service=\"{service}\",direction=\"{word}\"}} {count}");
        }
    }
}

fn render_durations(services: &Services, out: &mut String) {
    let name = "gatewright_request_duration_seconds";
    head(out, name, "histogram", "From the request's head to the last byte of its answer.");
    for (service, metrics) in services {
        let service = label(service);
        let mut running = 0;
        for (index, bound) in BUCKETS_US.iter().enumerate() {
            running += metrics.sum(|cell| cell.buckets.get(index).unwrap_or(&cell.gone));
            let bound = *bound as f64 / 1e6;
            let _ = writeln!(out, "{name}_bucket{{service=\"{service}\",le=\"{bound}\"}} {running}");
        }
        running += metrics.sum(|cell| cell.buckets.get(BUCKETS_US.len()).unwrap_or(&cell.gone));
        let seconds = metrics.sum(|cell| &cell.duration_us) as f64 / 1e6;
        let _ = writeln!(out, "{name}_bucket{{service=\"{service}\",le=\"+Inf\"}} {running}");
        let _ = writeln!(out, "{name}_sum{{service=\"{service}\"}} {seconds}");
        let _ = writeln!(out, "{name}_count{{service=\"{service}\"}} {running}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_all_workers_are_added_up() {
        let metrics = Metrics::new(2);
        let service = metrics.service(&"orders".into());
        for worker in [0, 1, 1, 7] {
            let outcome = Outcome { status: 200, word: "sent", bytes_in: 0, bytes_out: 5, duration_us: 700 };
            service.count(worker, outcome);
        }
        metrics.fault(0, &"orders".into(), "route.connect");
        metrics.add_labelled("reloads", "Reloads.", ("result", "swapped"), 2);
        metrics.state("snapshot", "What serves.", ("version", "a"));
        metrics.state("snapshot", "What serves.", ("version", "b"));
        for value in [1, 2] {
            let targets = BTreeMap::from([([format!("o\"{value}"), "usable".to_owned()], value)]);
            metrics.set_all("targets", "Targets.", ["upstream", "state"], targets);
        }
        let text = metrics.render();
        assert!(text.contains("\n# TYPE targets gauge\ntargets{upstream=\"o\\\"2\",state=\"usable\"} 2\n"), "{text}");
        assert!(!text.contains("o\\\"1"), "{text}");
        assert!(text.contains("# TYPE reloads counter\nreloads{result=\"swapped\"} 2\n"), "{text}");
        assert!(text.contains("\nsnapshot{version=\"b\"} 1\n") && !text.contains("version=\"a\""), "{text}");
        assert!(text.contains("gatewright_requests_total{service=\"orders\",status=\"2xx\"} 3"), "{text}");
        assert!(text.contains("gatewright_request_duration_seconds_bucket{service=\"orders\",le=\"0.0005\"} 0"));
        assert!(text.contains("gatewright_request_duration_seconds_bucket{service=\"orders\",le=\"0.001\"} 3"));
        assert!(text.contains("gatewright_faults_total{service=\"orders\",code=\"route.connect\"} 1"));
    }
}
