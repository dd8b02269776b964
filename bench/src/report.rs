//! What a measurement says: one row for each workload, for people as a table and for programs as one
//! JSON object a line.

use crate::rig::Measure;
use crate::workload::Workload;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::io::Write;
use std::time::Duration;

/// A line to stdout. Whoever reads it may have seen enough or have no room: that is an error like
/// others, after which the server is still cleaned up.
pub fn say(line: &str) -> Result<()> {
    say_to(&mut std::io::stdout().lock(), line)
}

fn say_to(out: &mut impl Write, line: &str) -> Result<()> {
    writeln!(out, "{line}").and_then(|()| out.flush()).context("cannot write the row")
}

const MIB: f64 = 1_048_576.0;
const GIB: f64 = 1_073_741_824.0;

pub struct Row<'a> {
    pub workload: Workload,
    pub measure: &'a Measure,
}

impl Row<'_> {
    fn unit(&self) -> &'static str {
        if self.workload.is_stream() { "MiB/s" } else { "op/s" }
    }

    fn rate(&self) -> f64 {
        let seconds = self.measure.elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
        let tally = &self.measure.tally;
        match self.workload.is_stream() {
            true => tally.bytes as f64 / MIB / seconds,
            false => tally.operations as f64 / seconds,
        }
    }

    fn per_operation_us(&self, cpu: Duration) -> f64 {
        cpu.as_secs_f64() * 1e6 / (self.measure.tally.operations.max(1) as f64)
    }

    fn per_gib_s(&self, cpu: Duration) -> f64 {
        cpu.as_secs_f64() / (self.measure.tally.bytes.max(1) as f64 / GIB)
    }

    /// The wait at a percentile, in microseconds.
    fn waited_us(&self, percentile: f64) -> f64 {
        self.measure.tally.latency_ns.value_at_percentile(percentile) as f64 / 1e3
    }

    pub fn json(&self) -> Value {
        let measure = self.measure;
        let tally = &measure.tally;
        let mut row = json!({
            "workload": self.workload.name(),
            "rate": self.rate(),
            "unit": self.unit(),
            "operations": tally.operations,
            "bytes": tally.bytes,
            "seconds": measure.elapsed.as_secs_f64(),
            "p50_us": self.waited_us(50.0),
            "p90_us": self.waited_us(90.0),
            "p99_us": self.waited_us(99.0),
            "p999_us": self.waited_us(99.9),
            "max_us": tally.latency_ns.max() as f64 / 1e3,
            "client_cpu_us_per_op": self.per_operation_us(measure.client_cpu),
        });
        if let Some(cpu) = measure.server_cpu {
            row["server_cpu_us_per_op"] = json!(self.per_operation_us(cpu));
        }
        if tally.bytes > 0 {
            row["client_cpu_s_per_gib"] = json!(self.per_gib_s(measure.client_cpu));
            if let Some(cpu) = measure.server_cpu {
                row["server_cpu_s_per_gib"] = json!(self.per_gib_s(cpu));
            }
        }
        row
    }

    pub fn text(&self) -> String {
        let measure = self.measure;
        // A long transfer's processor time is read per GiB.
        let cpu = |cpu: Duration| match self.workload.is_stream() {
            true => format!("{:.2} s/GiB", self.per_gib_s(cpu)),
            false => format!("{:.2} us", self.per_operation_us(cpu)),
        };
        format!(
            "{:<19}{:>12.0} {:<6}{:>9.0}{:>9.0}{:>9.0}{:>10.0}{:>10.0}{:>14}{:>14}",
            self.workload.name(),
            self.rate(),
            self.unit(),
            self.waited_us(50.0),
            self.waited_us(90.0),
            self.waited_us(99.0),
            self.waited_us(99.9),
            measure.tally.latency_ns.max() as f64 / 1e3,
            cpu(measure.client_cpu),
            measure.server_cpu.map_or("-".to_owned(), cpu),
        )
    }
}

pub fn heading() -> String {
    format!(
        "{:<19}{:>12} {:<6}{:>9}{:>9}{:>9}{:>10}{:>10}{:>14}{:>14}",
        "workload", "rate", "", "p50 us", "p90", "p99", "p99.9", "max", "client CPU", "server CPU"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_has_gone_is_an_error_and_no_panic() {
        assert!(say_to(&mut [0_u8; 3].as_mut_slice(), "a row").is_err());
        assert!(say_to(&mut Vec::new(), "a row").is_ok());
    }
}
