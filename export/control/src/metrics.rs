//! Everything that is counted, in the text that Prometheus reads.
//!
//! The text is OpenMetrics 1.0 (the specification's section "Text format"). What `cairn counters` calls `log_bytes`
//! is the family `cairn_log_bytes` here, a counter's sample has `_total` behind it, and what each shard counts has
//! its number as the label `shard`: whoever wants the sum adds them up. A maximum is a gauge.
//!
//! It is answered to `GET /metrics`, on the control socket and, where one was asked for, on an address. Whoever can
//! reach that address may be anybody: it has so many connections, each is one request, and each ends soon.

use crate::bridge::Caller;
use crate::proto::Counter;
use crate::service::counted;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// More at once are closed unanswered.
const CONNECTIONS_MAX: usize = 16;
/// From the first byte to the last.
const CONNECTION_TIME: Duration = Duration::from_secs(10);
/// After an accept that failed: mostly for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

#[derive(Debug)]
struct All(Vec<Counter>);

impl Collector for All {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for counter in &self.0 {
            let is_counter = counter.kind == "counter";
            let kind = if is_counter { MetricType::Counter } else { MetricType::Gauge };
            let name = format!("cairn_{}", counter.name);
            let mut family = encoder.encode_descriptor(&name, &counter.help, None, kind)?;
            let by_shard: Vec<(Option<usize>, u64)> = match counter.shards.as_slice() {
                [] => vec![(None, counter.value)],
                shards => {
                    shards.iter().enumerate().map(|(nth, value)| (Some(nth), *value)).collect()
                }
            };
            for (shard, value) in by_shard {
                let gauge = i64::try_from(value).unwrap_or(i64::MAX);
                let labels = shard.map(|nth| [("shard", nth.to_string())]);
                match (&labels, is_counter) {
                    (Some(labels), true) => {
                        let mut sample = family.encode_family(labels)?;
                        sample.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
                    }
                    (Some(labels), false) => family.encode_family(labels)?.encode_gauge(&gauge)?,
                    (None, true) => family.encode_counter::<NoLabelSet, _, u64>(&value, None)?,
                    (None, false) => family.encode_gauge(&gauge)?,
                }
            }
        }
        Ok(())
    }
}

/// What `Client::counters` gave, as OpenMetrics text.
pub fn metrics_text(counters: Vec<Counter>) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(All(counters)));
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = encode(&mut text, &registry);
    text
}

/// `GET /metrics`, and nothing else.
pub(crate) fn router(shards: Vec<Caller>) -> Router {
    Router::new().route("/metrics", get(scrape)).with_state(shards.into())
}

async fn scrape(State(shards): State<Arc<[Caller]>>) -> Response {
    match counted(&shards, "").await {
        Ok(counters) => {
            ([(header::CONTENT_TYPE, CONTENT_TYPE)], metrics_text(counters)).into_response()
        }
        Err(status) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", status.message())).into_response()
        }
    }
}

/// Answers on an address, for ever.
pub(crate) async fn serve(listener: TcpListener, shards: Vec<Caller>) {
    let elsewhere = async || (StatusCode::NOT_FOUND, "here is only /metrics\n");
    let router = router(shards).fallback(elsewhere);
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Ok(permit) = room.clone().try_acquire_owned() else { continue };
        let router = TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(CONNECTION_TIME).keep_alive(false);
            let answered = http.serve_connection(TokioIo::new(stream), router);
            // Who asks wrongly or takes too long is cut off; it is told by that.
            let _ = tokio::time::timeout(CONNECTION_TIME, answered).await;
            drop(permit);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counter(name: &str, kind: &str, shards: &[u64]) -> Counter {
        Counter {
            name: name.into(),
            value: 7,
            unit: "things".into(),
            kind: kind.into(),
            help: "What it is.".into(),
            shards: shards.to_vec(),
        }
    }

    #[test]
    fn counters_of_shards_are_labelled_and_those_of_the_process_are_not() {
        let all = vec![
            counter("a", "counter", &[3, u64::MAX]),
            counter("b", "gauge", &[4]),
            counter("c", "maximum", &[5]),
            counter("d", "gauge", &[]),
        ];
        let text = "# HELP cairn_a What it is.\n# TYPE cairn_a counter\n\
                    cairn_a_total{shard=\"0\"} 3\ncairn_a_total{shard=\"1\"} 18446744073709551615\n\
                    # HELP cairn_b What it is.\n# TYPE cairn_b gauge\ncairn_b{shard=\"0\"} 4\n\
                    # HELP cairn_c What it is.\n# TYPE cairn_c gauge\ncairn_c{shard=\"0\"} 5\n\
                    # HELP cairn_d What it is.\n# TYPE cairn_d gauge\ncairn_d 7\n# EOF\n";
        assert_eq!(metrics_text(all), text);
    }
}
