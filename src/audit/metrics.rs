//! The numbers of the process.
//!
//! A worker writes only its own cells, so that counting contends with nobody; a scrape adds them up.
//! Label sets are bounded: services by [`SERVICES_MAX`], fault codes by [`FAULT_CODES_MAX`], those of one other number by
//! [`LABEL_SETS_MAX`], and what policies count in [`Custom`]. `docs/records.md` lists every number.

pub mod family;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use self::family::{Family, FamilyKind, Point, PointValue};
use super::custom::Custom;

/// Fault codes counted per worker; further ones become `other`.
pub const FAULT_CODES_MAX: usize = 1000;

/// Services counted since the process began, those that reloads took away too; further ones become `other`.
pub const SERVICES_MAX: usize = 20_000;

/// Label sets of one number of the process, such as the targets of upstreams; further ones are left out.
pub const LABEL_SETS_MAX: usize = 60_000;

/// What stands in the place of a label's value that would be one too many.
const OTHER: &str = "other";

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

/// One number of the process, or one for each set of labels.
struct Series {
    kind: FamilyKind,
    help: &'static str,
    /// By labels; one without any where there are none.
    values: BTreeMap<Vec<(&'static str, String)>, u64>,
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
        let known = services.len() < SERVICES_MAX || services.contains_key(name);
        let name = if known { name.clone() } else { OTHER.into() };
        services.entry(name).or_insert_with(make).clone()
    }

    /// Counts a fault by its code.
    pub fn fault(&self, worker: usize, service: &Arc<str>, code: &str) {
        let Some(faults) = self.faults.get(worker) else { return };
        let mut faults = faults.lock().unwrap_or_else(PoisonError::into_inner);
        let known = faults.len() < FAULT_CODES_MAX || faults.contains_key(&(service.clone(), code.to_owned()));
        let key = if known { (service.clone(), code.to_owned()) } else { (OTHER.into(), OTHER.to_owned()) };
        *faults.entry(key).or_default() += 1;
    }

    /// Sets a number of the process: `kind` is `counter` or `gauge`.
    pub fn set(&self, name: &'static str, kind: &'static str, help: &'static str, value: u64) {
        let kind = if kind == "counter" { FamilyKind::Counter } else { FamilyKind::Gauge };
        self.series(name, kind, help, |values| {
            values.insert(Vec::new(), value);
        });
    }

    /// Adds to a number of the process.
    pub fn add(&self, name: &'static str, help: &'static str, by: u64) {
        self.series(name, FamilyKind::Counter, help, |values| *values.entry(Vec::new()).or_default() += by);
    }

    /// Adds to a number of the process that has a label. Its values are literals of the program: they are bounded.
    pub fn add_labelled(&self, name: &'static str, help: &'static str, of: (&'static str, &'static str), by: u64) {
        let key = vec![(of.0, of.1.to_owned())];
        self.series(name, FamilyKind::Counter, help, |values| *values.entry(key).or_default() += by);
    }

    /// States a fact as a label of a number that is always 1; an older value of the label is forgotten.
    pub fn state(&self, name: &'static str, help: &'static str, of: (&'static str, &str)) {
        let key = vec![(of.0, of.1.to_owned())];
        self.series(name, FamilyKind::Gauge, help, |values| *values = BTreeMap::from([(key, 1)]));
    }

    /// Sets all values of a number with several labels; those that are not among them are forgotten.
    pub fn set_all<const N: usize>(
        &self,
        name: &'static str,
        help: &'static str,
        of: [&'static str; N],
        values: BTreeMap<[String; N], u64>,
    ) {
        let key = |labels: [String; N]| of.into_iter().zip(labels).collect();
        let values = values.into_iter().take(LABEL_SETS_MAX);
        let all = values.map(|(labels, value)| (key(labels), value)).collect();
        self.series(name, FamilyKind::Gauge, help, |values| *values = all);
    }

    fn series(
        &self,
        name: &'static str,
        kind: FamilyKind,
        help: &'static str,
        change: impl FnOnce(&mut BTreeMap<Vec<(&'static str, String)>, u64>),
    ) {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut process.entry(name).or_insert(Series { kind, help, values: BTreeMap::new() }).values);
    }

    /// All numbers as they stand.
    pub fn families(&self) -> Vec<Family> {
        let process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        let mut families: Vec<Family> = process.iter().map(|(name, series)| family_of(name, series)).collect();
        drop(process);
        let services = self.services.lock().unwrap_or_else(PoisonError::into_inner).clone();
        families.extend([requests(&services), outcomes(&services), bytes(&services), durations(&services)]);
        families.push(self.faults());
        self.custom.families(&mut families);
        families
    }

    /// Everything in Prometheus' text format, version 0.0.4.
    pub fn render(&self) -> String {
        let mut out = String::new();
        self.families().iter().for_each(|family| family.render(&mut out));
        out
    }

    fn faults(&self) -> Family {
        let mut sums: BTreeMap<(Arc<str>, String), u64> = BTreeMap::new();
        for faults in &self.faults {
            for (key, count) in faults.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                *sums.entry(key.clone()).or_default() += count;
            }
        }
        let help = "Denied and broken requests by fault code.";
        let mut family = Family::new("gatewright_faults_total", FamilyKind::Counter, help);
        for ((service, code), count) in sums {
            family.add([("service", &service), ("code", &code)], PointValue::Whole(count));
        }
        family
    }
}

type Services = BTreeMap<Arc<str>, Arc<ServiceMetrics>>;

fn family_of(name: &'static str, series: &Series) -> Family {
    let mut family = Family::new(name, series.kind, series.help);
    family.points.extend(series.values.iter().map(|(labels, value)| {
        let labels = labels.iter().map(|(name, value)| (Cow::Borrowed(*name), value.clone()));
        Point { labels: labels.collect(), value: PointValue::Whole(*value) }
    }));
    family
}

fn requests(services: &Services) -> Family {
    let help = "Requests by service and status class.";
    let mut family = Family::new("gatewright_requests_total", FamilyKind::Counter, help);
    for (service, metrics) in services {
        for (class, word) in ["1xx", "2xx", "3xx", "4xx", "5xx"].into_iter().enumerate() {
            let count = metrics.sum(|cell| cell.classes.get(class).unwrap_or(&cell.gone));
            if count > 0 {
                family.add([("service", service), ("status", word)], PointValue::Whole(count));
            }
        }
    }
    family
}

fn outcomes(services: &Services) -> Family {
    let help = "Requests that were denied, broken or left by the client.";
    let mut family = Family::new("gatewright_outcomes_total", FamilyKind::Counter, help);
    for (service, metrics) in services {
        for (word, count) in [
            ("denied", metrics.sum(|cell| &cell.denied)),
            ("broken", metrics.sum(|cell| &cell.broken)),
            ("gone", metrics.sum(|cell| &cell.gone)),
        ] {
            family.add([("service", service), ("outcome", word)], PointValue::Whole(count));
        }
    }
    family
}

fn bytes(services: &Services) -> Family {
    let help = "Body bytes received from and sent to clients.";
    let mut family = Family::new("gatewright_body_bytes_total", FamilyKind::Counter, help);
    for (service, metrics) in services {
        for (word, count) in [("in", metrics.sum(|cell| &cell.bytes_in)), ("out", metrics.sum(|cell| &cell.bytes_out))]
        {
            family.add([("service", service), ("direction", word)], PointValue::Whole(count));
        }
    }
    family
}

fn durations(services: &Services) -> Family {
    let help = "From the request's head to the last byte of its answer.";
    let mut family = Family::new("gatewright_request_duration_seconds", FamilyKind::Histogram, help);
    for (service, metrics) in services {
        let count = |index: usize| metrics.sum(|cell| cell.buckets.get(index).unwrap_or(&cell.gone));
        let histogram = PointValue::Histogram {
            bounds: BUCKETS_US.iter().map(|bound| *bound as f64 / 1e6).collect(),
            counts: (0..=BUCKETS_US.len()).map(count).collect(),
            sum: metrics.sum(|cell| &cell.duration_us) as f64 / 1e6,
        };
        family.add([("service", service)], histogram);
    }
    family
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

    #[test]
    fn no_label_grows_without_end() {
        let metrics = Metrics::new(1);
        let outcome = Outcome { status: 200, word: "sent", bytes_in: 0, bytes_out: 0, duration_us: 1 };
        for number in 0..SERVICES_MAX + 5 {
            metrics.service(&format!("s{number}").into()).count(0, outcome);
        }
        metrics.service(&"s3".into()).count(0, outcome);
        for number in 0..FAULT_CODES_MAX + 5 {
            metrics.fault(0, &format!("s{number}").into(), "route.dns");
        }
        let targets = (0..LABEL_SETS_MAX + 5).map(|number| ([number.to_string()], 1)).collect();
        metrics.set_all("targets", "Targets.", ["upstream"], targets);
        let text = metrics.render();
        let lines = |begin: &str| text.lines().filter(|line| line.starts_with(begin)).count();
        assert_eq!(lines("gatewright_requests_total"), SERVICES_MAX + 1);
        assert!(text.contains("gatewright_requests_total{service=\"other\",status=\"2xx\"} 5\n"));
        assert!(text.contains("gatewright_requests_total{service=\"s3\",status=\"2xx\"} 2\n"));
        assert_eq!(lines("gatewright_faults_total"), FAULT_CODES_MAX + 1);
        assert!(text.contains("gatewright_faults_total{service=\"other\",code=\"other\"} 5\n"));
        assert_eq!(lines("targets{"), LABEL_SETS_MAX);
    }
}
