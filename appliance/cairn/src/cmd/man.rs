//! `cairn man`: the manual, made from the same text as `--help`.

use crate::exit::{self, Error, Outcome};
use crate::output::judge;
use crate::{Cli, Globals};
use clap::{Args, Command, CommandFactory};
use clap_mangen::Man as Page;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Print the manual, or write its pages
#[derive(Args)]
#[command(
    long_about = "Print the manual page of cairn, or of one command, in the form that man reads. With \
                  --out all pages are written to a folder: cairn.1, and cairn-COMMAND.1 for each \
                  command.",
    after_help = "Examples:\n  cairn man | man -l -\n  cairn man changes | man -l -\n  \
                  cairn man --out /usr/local/share/man/man1"
)]
pub struct Man {
    /// Print this command's page; `cairn` is the program's own
    #[arg(value_name = "COMMAND", conflicts_with = "out")]
    of: Option<String>,

    /// Write all pages to this folder, which is made when it is not there
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl Man {
    pub fn run(&self, _: &Globals) -> exit::Result {
        let pages = pages();
        if let Some(dir) = &self.out {
            write_all(dir, &pages)?;
            return Ok(Outcome::Done);
        }
        let wanted = self.of.as_deref().unwrap_or("cairn");
        let is_wanted = |page: &Command| name(page) == wanted || page.get_name() == wanted;
        let page = pages.into_iter().find(is_wanted);
        let page = page.ok_or_else(|| Error::usage(wanted, "there is no such command"))?;
        let written = std::io::stdout().lock().write_all(&render(page)?);
        let _ = judge(written)?;
        Ok(Outcome::Done)
    }
}

/// One command a page.
fn pages() -> Vec<Command> {
    let mut cairn = Cli::command();
    cairn.build();
    let mut pages = vec![cairn.clone().disable_help_flag(true)];
    let shown = cairn.get_subcommands().filter(|command| !command.is_hide_set());
    pages.extend(shown.cloned());
    pages
}

/// `cairn`, or `cairn-COMMAND`: what `build` has made of a subcommand's name.
fn name(page: &Command) -> &str {
    page.get_display_name().unwrap_or_else(|| page.get_name())
}

fn render(page: Command) -> Result<Vec<u8>, Error> {
    let mut roff = Vec::new();
    let name = name(&page).to_owned();
    let rendered = Page::new(page)
        .source(concat!("cairn ", env!("CARGO_PKG_VERSION")))
        .manual("cairn")
        .render(&mut roff);
    rendered.map_err(|error| Error::io(name, &error))?;
    Ok(roff)
}

fn write_all(dir: &Path, pages: &[Command]) -> Result<(), Error> {
    std::fs::create_dir_all(dir).map_err(|error| Error::io(dir.display(), &error))?;
    for page in pages {
        let path = dir.join(format!("{}.1", name(page)));
        let written = std::fs::write(&path, render(page.clone())?);
        written.map_err(|error| Error::io(path.display(), &error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_and_an_example() {
        let pages = pages();
        assert!(pages.len() > 15);
        for page in &pages[1..] {
            let verb = page.get_name();
            assert_eq!(name(page), format!("cairn-{verb}"));
            let help = page.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains(&format!("\n  cairn {verb}")), "{verb} has no example");
            let roff = String::from_utf8(render(page.clone()).unwrap()).unwrap();
            assert!(
                roff.contains(&name(page).replace('-', "\\-")),
                "{verb} is not named in its page"
            );
            assert!(roff.contains("Example"), "{verb}: no example in its page:\n{roff}");
        }
    }
}
