//! What the coordinator counts of itself, and what it knows of its fleet, in the text format of Prometheus.
//!
//! Counters live from one start to the next, as Prometheus expects. What the database knows is asked at each scrape
//! (`gauges`). Refuses to know who may see it: `http` decides.

pub mod gauges;
mod sensors;

use std::fmt;

use http::StatusCode;
use prometheus_client::encoding::prometheus_text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use vetting_protocol::agent_api::Record;
use vetting_protocol::ids::RunId;

pub use prometheus_text::CONTENT_TYPE;
pub use sensors::{SENSOR_KINDS, Sample, Sensors};

/// Label names and values of one series.
pub(crate) type Labels = Vec<(&'static str, String)>;

/// Upper ends of the buckets of acknowledgements, seconds: an fsync of a good SSD is 1 ms, agents give up after 60 s.
const ACKNOWLEDGEMENT_BUCKETS: [f64; 12] =
    [0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];
/// Status classes of answers, so that each is there before its first answer.
const CLASSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];

/// Which listener a request came by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listener {
    /// Agents and operators.
    Https,
    /// Boot files.
    Http,
}

impl Listener {
    const ALL: [Self; 2] = [Self::Https, Self::Http];

    fn word(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Http => "http",
        }
    }
}

/// What is counted. Clones share it.
#[derive(Debug, Clone)]
pub struct Metrics {
    samples: Counter,
    batches: Counter,
    acknowledgements: Histogram,
    requests: Family<Labels, Counter>,
    /// Last values of sensors; absent where the config does not want them.
    pub sensors: Option<Sensors>,
}

impl Metrics {
    /// Nothing counted yet.
    pub fn new(with_sensors: bool) -> Self {
        let requests = Family::<Labels, Counter>::default();
        for listener in Listener::ALL {
            for class in CLASSES {
                drop(requests.get_or_create(&request_labels(listener, class)));
            }
        }
        Self {
            samples: Counter::default(),
            batches: Counter::default(),
            acknowledgements: Histogram::new(ACKNOWLEDGEMENT_BUCKETS),
            requests,
            sensors: with_sensors.then(Sensors::default),
        }
    }

    /// A batch with so many samples was stored.
    pub fn stored(&self, samples: usize) {
        self.batches.inc();
        self.samples.inc_by(samples as u64);
    }

    /// A batch was acknowledged, so long after its request had come.
    pub fn acknowledged(&self, after_us: i64) {
        self.acknowledgements.observe(after_us as f64 / 1e6);
    }

    /// A request was answered.
    pub fn answered(&self, listener: Listener, status: StatusCode) {
        let class = match status.as_u16() {
            200..300 => "2xx",
            300..400 => "3xx",
            400..500 => "4xx",
            _ => "5xx",
        };
        self.requests.get_or_create(&request_labels(listener, class)).inc();
    }

    /// The newest sample of each sensor in these records, for [`Sensors::take`]; nothing where nobody wants them.
    pub fn newest_samples(&self, records: &[Record]) -> Vec<Sample> {
        if self.sensors.is_none() { Vec::new() } else { sensors::newest(records) }
    }

    /// Keeps those, once they are stored.
    pub fn keep_samples(&self, run: RunId, samples: Vec<Sample>) {
        if let Some(sensors) = &self.sensors {
            sensors.take(run, samples);
        }
    }

    /// Everything as text: what was counted, and these gauges.
    ///
    /// # Errors
    /// None in practice: a text takes what is written into it.
    pub fn text(&self, gauges: &gauges::Gauges) -> Result<String, fmt::Error> {
        let mut counted = Registry::with_prefix("vetting");
        counted.register("samples_ingested", "Samples stored since the start", self.samples.clone());
        counted.register(
            "batches_ingested",
            "Batches of records stored since the start",
            self.batches.clone(),
        );
        counted.register(
            "acknowledgement_seconds",
            "From the arrival of a batch to its acknowledgement, which follows the commit",
            self.acknowledgements.clone(),
        );
        counted.register(
            "http_requests",
            "Answered requests by listener and status class",
            self.requests.clone(),
        );
        gauges.register(&mut counted);
        let mut text = String::new();
        prometheus_text::encode(&mut text, &counted)?;
        Ok(text)
    }
}

fn request_labels(listener: Listener, class: &str) -> Labels {
    vec![("listener", listener.word().to_owned()), ("class", class.to_owned())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_in_the_text() {
        let metrics = Metrics::new(false);
        metrics.stored(7);
        metrics.stored(0);
        metrics.acknowledged(3_000);
        metrics.answered(Listener::Https, StatusCode::CREATED);
        metrics.answered(Listener::Https, StatusCode::SERVICE_UNAVAILABLE);
        let text = metrics.text(&gauges::Gauges::default()).unwrap();
        for line in [
            "vetting_samples_ingested_total 7",
            "vetting_batches_ingested_total 2",
            "vetting_acknowledgement_seconds_bucket{le=\"0.0025\"} 0",
            "vetting_acknowledgement_seconds_bucket{le=\"0.005\"} 1",
            "vetting_acknowledgement_seconds_count 1",
            "vetting_http_requests_total{listener=\"https\",class=\"2xx\"} 1",
            "vetting_http_requests_total{listener=\"https\",class=\"5xx\"} 1",
            "vetting_http_requests_total{listener=\"http\",class=\"4xx\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
