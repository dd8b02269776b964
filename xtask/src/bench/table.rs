//! Several runs of each server made into one row a workload: medians, spreads and their ratio.
//!
//! The spread is the distance between the best and the worst run in percent of the median. A ratio
//! within both spreads of 1 says nothing.

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// All rows that the load generator printed, by server.
#[derive(Default)]
pub struct Runs {
    pub ours: Vec<Vec<Value>>,
    pub peer: Vec<Vec<Value>>,
    pub unsynced: Vec<Vec<Value>>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Median {
    pub value: f64,
    pub spread_percent: f64,
}

/// One workload.
pub struct Row {
    pub workload: String,
    pub unit: String,
    pub ours: Figures,
    pub peer: Option<Figures>,
    pub unsynced: Option<Figures>,
}

/// One workload of one server, over all runs.
pub struct Figures {
    pub rate: Median,
    /// Per operation in microseconds, or for streams per GiB in seconds.
    pub cpu: Option<f64>,
    pub p50_us: Option<f64>,
    pub p99_us: Option<f64>,
    pub p999_us: Option<f64>,
}

impl Row {
    pub fn ratio(&self) -> Option<f64> {
        self.peer.as_ref().map(|peer| self.ours.rate.value / peer.rate.value)
    }

    pub fn is_stream(&self) -> bool {
        self.unit == "MiB/s"
    }

    pub fn json(&self) -> Value {
        let mut row = Map::new();
        row.insert("workload".into(), json!(self.workload));
        row.insert("unit".into(), json!(self.unit));
        let cpu_unit = if self.is_stream() { "cpu_s_per_gib" } else { "cpu_us_per_op" };
        let servers = [
            ("ours", Some(&self.ours)),
            ("peer", self.peer.as_ref()),
            ("peer_unsynced", self.unsynced.as_ref()),
        ];
        for (server, figures) in servers {
            let Some(figures) = figures else { continue };
            row.insert(server.into(), json!(figures.rate.value));
            row.insert(format!("{server}_spread_percent"), json!(figures.rate.spread_percent));
            row.insert(format!("{server}_{cpu_unit}"), json!(figures.cpu));
            row.insert(format!("{server}_p50_us"), json!(figures.p50_us));
            row.insert(format!("{server}_p99_us"), json!(figures.p99_us));
            row.insert(format!("{server}_p999_us"), json!(figures.p999_us));
        }
        if let Some(ratio) = self.ratio() {
            row.insert("ratio".into(), json!(ratio));
        }
        Value::Object(row)
    }

    pub fn text(&self) -> String {
        let rate = |figures: Option<&Figures>| match figures {
            Some(figures) => {
                format!("{:>9.0} {:>4.0}%", figures.rate.value, figures.rate.spread_percent)
            }
            None => format!("{:>9} {:>5}", "-", ""),
        };
        let number = |value: Option<f64>, digits: usize| match value {
            Some(value) => format!("{value:.digits$}"),
            None => "-".to_owned(),
        };
        let cpu = |figures: Option<&Figures>| number(figures.and_then(|figures| figures.cpu), 2);
        let peer = self.peer.as_ref();
        format!(
            "{:<19}{:<6}{}{}{:>8}{:>9}{:>9}  {:<6}{:>11}",
            self.workload,
            self.unit,
            rate(Some(&self.ours)),
            rate(peer),
            number(self.ratio(), 2),
            cpu(Some(&self.ours)),
            cpu(peer),
            if self.is_stream() { "s/GiB" } else { "us/op" },
            number(self.unsynced.as_ref().map(|figures| figures.rate.value), 0),
        )
    }
}

pub fn heading() -> String {
    format!(
        "{:<19}{:<6}{:>9} {:>5}{:>9} {:>5}{:>8}{:>9}{:>9}  {:<6}{:>11}",
        "workload",
        "",
        "ours",
        "+-",
        "peer",
        "+-",
        "ratio",
        "our CPU",
        "peer CPU",
        "",
        "(unsynced)"
    )
}

/// The workloads in the order of the runs.
pub fn rows(runs: &Runs) -> Vec<Row> {
    let order = runs.ours.first().into_iter().flatten();
    let names = order.filter_map(|row| row["workload"].as_str());
    let of = |runs: &[Vec<Value>], name: &str| {
        let rows: Vec<&Value> =
            runs.iter().flatten().filter(|row| row["workload"] == name).collect();
        figures(&rows)
    };
    let row = |name: &str| {
        let first = runs.ours.iter().flatten().find(|row| row["workload"] == name)?;
        Some(Row {
            workload: name.to_owned(),
            unit: first["unit"].as_str()?.to_owned(),
            ours: of(&runs.ours, name)?,
            peer: of(&runs.peer, name),
            unsynced: of(&runs.unsynced, name),
        })
    };
    names.filter_map(row).collect()
}

fn figures(rows: &[&Value]) -> Option<Figures> {
    let key = |name: &str| {
        let values: Vec<f64> = rows.iter().filter_map(|row| row[name].as_f64()).collect();
        median(&values)
    };
    let is_stream = rows.first()?["unit"] == "MiB/s";
    let cpu = if is_stream { "server_cpu_s_per_gib" } else { "server_cpu_us_per_op" };
    let value = |name: &str| key(name).map(|median| median.value);
    Some(Figures {
        rate: key("rate")?,
        cpu: value(cpu),
        p50_us: value("p50_us"),
        p99_us: value("p99_us"),
        p999_us: value("p999_us"),
    })
}

pub fn median(values: &[f64]) -> Option<Median> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (first, last) = (sorted.first()?, sorted.last()?);
    let middle = sorted.len() / 2;
    let value = match sorted.len() % 2 {
        0 => f64::midpoint(sorted[middle - 1], sorted[middle]),
        _ => sorted[middle],
    };
    Some(Median { value, spread_percent: (last - first) / value.max(f64::MIN_POSITIVE) * 100.0 })
}

/// How often each ratio class occurs, for the line under the table.
pub fn summary(rows: &[Row]) -> Option<String> {
    let mut counts = BTreeMap::from([("faster", 0), ("slower", 0)]);
    for ratio in rows.iter().filter_map(Row::ratio) {
        let class = if ratio >= 1.0 { "faster" } else { "slower" };
        counts.entry(class).and_modify(|count| *count += 1);
    }
    let (faster, slower) = (counts["faster"], counts["slower"]);
    (faster + slower > 0).then(|| format!("{faster} rows at or above the peer, {slower} below"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(rate: f64, cpu: f64) -> Vec<Value> {
        vec![json!({
            "workload": "null", "unit": "op/s", "rate": rate, "server_cpu_us_per_op": cpu
        })]
    }

    #[test]
    fn a_row_has_the_medians_and_their_ratio() {
        let runs = Runs {
            ours: vec![run(30.0, 1.0), run(10.0, 3.0), run(20.0, 2.0)],
            peer: vec![run(5.0, 9.0), run(15.0, 7.0)],
            unsynced: vec![],
        };
        let rows = rows(&runs);
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].ours.rate, Median { value: 20.0, spread_percent: 100.0 });
        let json = rows[0].json();
        assert_eq!(json["ratio"], 2.0);
        assert_eq!(json["ours_cpu_us_per_op"], 2.0);
        assert_eq!(json["peer_cpu_us_per_op"], 8.0);
        assert_eq!(json.get("peer_unsynced"), None);
    }

    #[test]
    fn without_a_peer_there_is_no_ratio() {
        let runs = Runs { ours: vec![run(30.0, 1.0)], ..Runs::default() };
        let rows = rows(&runs);
        assert_eq!(rows[0].ratio(), None);
        assert_eq!(summary(&rows), None);
    }
}
