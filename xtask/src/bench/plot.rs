//! Bar charts as PNG: one group of bars a workload, on a logarithmic axis.
//!
//! plotters draws and encodes, with its bitmap back end alone: its text needs either the system's font
//! libraries or a font file, and a tool of the build should need neither. Letters are set from an 8x8
//! font that is a table of bits.

use anyhow::{Context, Result};
use font8x8::legacy::BASIC_LEGACY;
use plotters::prelude::{BLACK, BitMapBackend, Color, IntoDrawingArea, RGBColor, Rectangle, WHITE};
use plotters::prelude::{DrawingArea, PathElement};
use std::path::Path;

pub struct Chart<'a> {
    pub title: &'a str,
    pub series: &'a [&'a str],
    /// A label and one value for each series, where there is one.
    pub groups: Vec<(String, Vec<Option<f64>>)>,
    /// Where a heavy line is drawn.
    pub mark: Option<f64>,
}

type Area<'a> = DrawingArea<BitMapBackend<'a>, plotters::coord::Shift>;

const WIDTH: u32 = 1100;
const LABEL_END: i32 = 200;
const PLOT_END: i32 = 980;
const TOP: i32 = 80;
const BAR: i32 = 12;
const GAP: i32 = 12;
const GLYPH: i32 = 8;
const COLOURS: [RGBColor; 3] =
    [RGBColor(31, 101, 168), RGBColor(214, 126, 44), RGBColor(170, 170, 170)];

impl Chart<'_> {
    pub fn draw(&self, path: &Path) -> Result<()> {
        let bars = i32::try_from(self.series.len()).context("too many series")?;
        let group_height = bars * BAR + GAP;
        let groups = i32::try_from(self.groups.len()).context("too many groups")?;
        let bottom = TOP + groups * group_height;
        let height = u32::try_from(bottom + 40).context("too many groups")?;
        let area = BitMapBackend::new(path, (WIDTH, height)).into_drawing_area();
        area.fill(&WHITE).context("cannot draw")?;
        text(&area, (16, 16), self.title)?;
        for (index, name) in self.series.iter().enumerate() {
            let left = 16 + i32::try_from(index)? * 260;
            bar(&area, (left, 44), (left + 20, 56), COLOURS[index % COLOURS.len()])?;
            text(&area, (left + 28, 46), name)?;
        }
        let Some(axis) = Axis::over(self.values().chain(self.mark)) else {
            return area.present().context("cannot write the picture");
        };
        for decade in axis.decades() {
            let x = axis.place(decade);
            line(&area, (x, TOP), (x, bottom), RGBColor(220, 220, 220))?;
            text(&area, (x - 12, bottom + 12), &short(decade))?;
        }
        if let Some(mark) = self.mark {
            line(&area, (axis.place(mark), TOP), (axis.place(mark), bottom), BLACK)?;
        }
        for (number, (label, values)) in (0..).zip(&self.groups) {
            let top = TOP + number * group_height + GAP / 2;
            text(&area, (16, top + (bars * BAR - GLYPH) / 2), label)?;
            for ((row, value), colour) in (0..).zip(values).zip(COLOURS) {
                let Some(value) = value.filter(|value| *value > 0.0) else { continue };
                let (y, end) = (top + row * BAR, axis.place(value));
                bar(&area, (LABEL_END, y), (end.max(LABEL_END + 1), y + BAR - 2), colour)?;
                text(&area, (end.max(LABEL_END) + 6, y + 1), &short(value))?;
            }
        }
        area.present().with_context(|| format!("cannot write {}", path.display()))
    }

    fn values(&self) -> impl Iterator<Item = f64> {
        self.groups.iter().flat_map(|(_, values)| values.iter().copied().flatten())
    }
}

/// Logarithmic, from one power of ten to another.
struct Axis {
    first: i32,
    last: i32,
}

impl Axis {
    /// Nothing when there is nothing above zero to show.
    fn over(values: impl Iterator<Item = f64>) -> Option<Axis> {
        let positive: Vec<f64> = values.filter(|value| *value > 0.0).collect();
        let least = positive.iter().copied().min_by(f64::total_cmp)?;
        let most = positive.iter().copied().max_by(f64::total_cmp)?;
        let first = least.log10().floor() as i32;
        Some(Axis { first, last: (most.log10().ceil() as i32).max(first + 1) })
    }

    fn decades(&self) -> impl Iterator<Item = f64> {
        (self.first..=self.last).map(|power| 10_f64.powi(power))
    }

    fn place(&self, value: f64) -> i32 {
        let share = (value.log10() - f64::from(self.first)) / f64::from(self.last - self.first);
        LABEL_END + (share.clamp(0.0, 1.0) * f64::from(PLOT_END - LABEL_END)) as i32
    }
}

/// Three digits and a unit of thousands.
fn short(value: f64) -> String {
    let (scaled, letter) = match value {
        value if value >= 1e6 => (value / 1e6, "M"),
        value if value >= 1e3 => (value / 1e3, "k"),
        value => (value, ""),
    };
    let digits = match scaled {
        scaled if scaled >= 100.0 => 0,
        scaled if scaled >= 10.0 => 1,
        _ => 2,
    };
    let number = format!("{scaled:.digits$}");
    let number = if number.contains('.') {
        number.trim_end_matches('0').trim_end_matches('.')
    } else {
        &number
    };
    format!("{number}{letter}")
}

fn bar(area: &Area<'_>, from: (i32, i32), to: (i32, i32), colour: RGBColor) -> Result<()> {
    area.draw(&Rectangle::new([from, to], colour.filled())).context("cannot draw")
}

fn line(area: &Area<'_>, from: (i32, i32), to: (i32, i32), colour: RGBColor) -> Result<()> {
    area.draw(&PathElement::new(vec![from, to], colour)).context("cannot draw")
}

/// ASCII; anything else becomes a question mark. A glyph is eight rows, the lowest bit on the left.
fn text(area: &Area<'_>, (left, top): (i32, i32), text: &str) -> Result<()> {
    for (index, letter) in (0..).zip(text.chars()) {
        let code = if letter.is_ascii() { letter as usize } else { usize::from(b'?') };
        for (y, row) in (0..).zip(BASIC_LEGACY[code]) {
            for x in (0..GLYPH).filter(|x| row >> x & 1 == 1) {
                area.draw_pixel((left + index * GLYPH + x, top + y), &BLACK)
                    .context("cannot draw")?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_keep_their_size() {
        for (value, text) in [
            (0.25, "0.25"),
            (1.0, "1"),
            (10.0, "10"),
            (123.4, "123"),
            (54_321.0, "54.3k"),
            (2e6, "2M"),
        ] {
            assert_eq!(short(value), text);
        }
    }

    #[test]
    fn the_axis_holds_all_values_and_grows_to_the_right() {
        let axis = Axis::over([0.3, 250.0].into_iter()).expect("values above zero");
        assert_eq!((axis.first, axis.last), (-1, 3));
        assert_eq!((axis.place(0.1), axis.place(1000.0)), (LABEL_END, PLOT_END));
        assert!(axis.place(1.0) < axis.place(2.0));
        assert!(Axis::over([0.0].into_iter()).is_none());
    }
}
