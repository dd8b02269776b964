//! What `cairn top` shows: two samples of the daemon, the rates between them, and their two forms.
//!
//! `sample.rs` asks and computes, `plain.rs` writes text for a pipe, `screen.rs` draws on a terminal.
//! Both forms show the same `View` and compute nothing themselves.

mod plain;
mod sample;
mod screen;

pub use plain::lines;
pub use sample::{Sample, View};
pub use screen::Screen;

use sample::MemoryView;

/// "RSS of BUDGET", then the parts that use something, the largest first.
fn memory(view: &View) -> String {
    let budget =
        view.memory_budget_bytes.map_or(String::new(), |most| format!(" of {}", bytes(most)));
    let mut parts: Vec<&MemoryView> = view.memory.iter().filter(|part| part.bytes > 0).collect();
    parts.sort_by_key(|part| std::cmp::Reverse(part.bytes));
    let parts = parts
        .iter()
        .map(|part| format!("  {} {}/{}", part.part, bytes(part.bytes), bytes(part.bytes_max)));
    format!("memory {}{budget}{}", bytes(view.resident_bytes), parts.collect::<String>())
}

/// A size in the largest unit that leaves at least 10 of it, rounded down.
pub fn bytes(count: u64) -> String {
    let units = ["", "K", "M", "G", "T", "P", "E"];
    let power = (1..units.len()).rev().find(|power| count >> (10 * power) >= 10).unwrap_or(0);
    format!("{}{}", count >> (10 * power), units[power])
}

#[cfg(test)]
mod tests {
    #[test]
    fn bytes_keep_two_digits() {
        let shown = [0, 10239, 10240, 64 << 20, u64::MAX].map(super::bytes);
        assert_eq!(shown, ["0", "10239", "10K", "64M", "15E"]);
    }
}
