//! The view on a terminal.
//!
//! Three blocks stand above each other: totals, shards, procedures. What does not fit is left out from
//! the right and from below, so a narrow terminal shows less and not nonsense. However this ends, by a
//! key, an error or a panic, the terminal is given back as it was.

use super::sample::{ShardView, View};
use super::{bytes, memory};
use crate::exit::Error;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::Line;
use ratatui::widgets::{Cell, Paragraph, Row, Table};
use ratatui::{DefaultTerminal, Frame};
use std::time::Duration;

/// From here on somebody should look.
const HIGH_PERCENT: u64 = 80;
const BAR_CELLS: u64 = 10;

pub struct Screen {
    terminal: DefaultTerminal,
}

impl Screen {
    pub fn open() -> Result<Screen, Error> {
        let terminal = ratatui::try_init().map_err(|error| Error::io("terminal", &error))?;
        Ok(Screen { terminal })
    }

    pub fn show(&mut self, view: &View) -> Result<(), Error> {
        let drawn = self.terminal.draw(|frame| draw(frame, view));
        drawn.map(drop).map_err(|error| Error::io("terminal", &error))
    }

    /// Whether the user wants out. Takes what was typed until now; does not wait.
    pub fn is_left(&self) -> Result<bool, Error> {
        let next = || -> std::io::Result<bool> {
            while event::poll(Duration::ZERO)? {
                if is_leave(&event::read()?) {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        next().map_err(|error| Error::io("terminal", &error))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

fn is_leave(event: &Event) -> bool {
    let Event::Key(key) = event else { return false };
    let control_c = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    let plain = matches!(key.code, KeyCode::Char('q') | KeyCode::Esc);
    key.kind == KeyEventKind::Press && (control_c || plain)
}

fn draw(frame: &mut Frame<'_>, view: &View) {
    let shards = u16::try_from(view.shards.len()).unwrap_or(u16::MAX).saturating_add(1);
    let [totals, _, middle, _, below] = Layout::vertical([
        Constraint::Length(4),
        Constraint::Length(1),
        Constraint::Length(shards.min(frame.area().height / 2)),
        Constraint::Length(1),
        Constraint::Fill(1),
    ])
    .areas(frame.area());
    draw_totals(frame, totals, view);
    draw_shards(frame, middle, view);
    draw_procedures(frame, below, view);
}

fn draw_totals(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let health =
        Style::new().bold().fg(if view.health == "ok" { Color::Green } else { Color::Red });
    let lines = vec![
        Line::from_iter([
            format!("cairn {} ", view.version).bold(),
            ratatui::text::Span::styled(view.health.clone(), health),
            format!("  up {}  {} connections  q quits", uptime(view.uptime_s), view.connections)
                .into(),
        ]),
        Line::raw(format!(
            "{} calls/s  {} operations/s  in {}/s  out {}/s  log {}/s",
            view.calls_per_s,
            view.operations_per_s,
            bytes(view.received_bytes_per_s),
            bytes(view.sent_bytes_per_s),
            bytes(view.log_bytes_per_s),
        )),
        Line::raw(format!(
            "{} free of {}  {} inodes",
            bytes(view.bytes_free),
            bytes(view.bytes_total),
            view.inodes
        )),
        Line::raw(memory(view)),
    ];
    frame.render_widget(Paragraph::new(lines), area);
}

fn draw_shards(frame: &mut Frame<'_>, area: Rect, view: &View) {
    // Columns by how much they tell; a narrow terminal has the first ones.
    let columns: [(&str, u16); 8] = [
        ("shard", 6),
        ("busy", 16),
        ("ops/s", 9),
        ("log", 5),
        ("memtables", 10),
        ("dirty", 7),
        ("connections", 12),
        ("inodes", 12),
    ];
    let mut left = area.width;
    let fit = columns.iter().take_while(|(_, width)| {
        let fits = left >= *width;
        left = left.saturating_sub(width + 1);
        fits
    });
    let fit = fit.count().max(1);
    let header = columns[..fit].iter().map(|(name, _)| *name);
    let rows = view.shards.iter().map(|shard| {
        let style = if shard.stopped { Style::new().fg(Color::Red) } else { Style::new() };
        Row::new(cells(shard).into_iter().take(fit)).style(style)
    });
    let widths = columns[..fit].iter().map(|(_, width)| Constraint::Length(*width));
    let table = Table::new(rows, widths).header(Row::new(header).style(Style::new().bold()));
    frame.render_widget(table, area);
}

fn cells(shard: &ShardView) -> Vec<Cell<'static>> {
    let state = if shard.stopped { format!("{} !", shard.shard) } else { shard.shard.to_string() };
    vec![
        Cell::new(state),
        level(
            shard.busy_percent,
            format!("{:>3}% {}", shard.busy_percent, bar(shard.busy_percent)),
        ),
        Cell::new(shard.operations_per_s.to_string()),
        level(shard.log_percent, format!("{}%", shard.log_percent)),
        level(shard.memtable_percent, format!("{}%", shard.memtable_percent)),
        Cell::new(bytes(shard.dirty_bytes)),
        Cell::new(shard.connections.to_string()),
        Cell::new(shard.inodes.to_string()),
    ]
}

fn level(percent: u64, text: String) -> Cell<'static> {
    let color = if percent >= HIGH_PERCENT { Color::Yellow } else { Color::Reset };
    Cell::new(text).style(Style::new().fg(color))
}

fn bar(percent: u64) -> String {
    let full = percent.div_ceil(100 / BAR_CELLS);
    (0..BAR_CELLS).map(|cell| if cell < full { '#' } else { '.' }).collect()
}

fn draw_procedures(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let header = Row::new(["procedure", "calls/s", "mean us"]).style(Style::new().bold());
    let rows = view.procedures.iter().map(|procedure| {
        let (rate, mean) = (procedure.calls_per_s.to_string(), procedure.mean_us.to_string());
        Row::new([procedure.name.clone(), rate, mean])
    });
    let widths = [Constraint::Length(12), Constraint::Length(10), Constraint::Length(10)];
    frame.render_widget(Table::new(rows, widths).header(header), area);
}

fn uptime(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes}m{:02}s", seconds % 60),
        (0, _) => format!("{hours}h{minutes:02}m"),
        _ => format!("{days}d{hours:02}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::ProcedureView;
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn view() -> View {
        let shard =
            |shard| ShardView { shard, busy_percent: 85, inodes: 7, ..ShardView::default() };
        let read = ProcedureView { name: "read".into(), calls_per_s: 1234, mean_us: 17 };
        View {
            health: "ok".into(),
            shards: (0..4).map(shard).collect(),
            procedures: vec![read],
            ..View::default()
        }
    }

    fn drawn(width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, &view())).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn a_common_terminal_shows_everything() {
        let shown = drawn(80, 24);
        for part in ["85% #########.", "inodes", "read", "1234", "17", "q quits"] {
            assert!(shown.contains(part), "{part} is missing:\n{shown}");
        }
    }

    #[test]
    fn a_narrow_one_shows_less_and_breaks_nothing() {
        let shown = drawn(26, 12);
        assert!(shown.contains("85% ####") && !shown.contains("memtables"), "{shown}");
        for (width, height) in [(1, 1), (3, 40), (200, 2), (10, 5)] {
            drawn(width, height);
        }
    }

    #[test]
    fn only_keys_that_mean_so_leave() {
        let key = |code, modifiers| Event::Key(event::KeyEvent::new(code, modifiers));
        assert!(is_leave(&key(KeyCode::Char('q'), KeyModifiers::NONE)));
        assert!(is_leave(&key(KeyCode::Char('c'), KeyModifiers::CONTROL)));
        assert!(!is_leave(&key(KeyCode::Char('c'), KeyModifiers::NONE)));
        assert!(!is_leave(&Event::Resize(1, 1)));
    }
}
