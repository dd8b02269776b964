//! `cairn completions`: a script for the user's shell.

use crate::exit::{self, Outcome};
use crate::output::judge;
use crate::{Cli, Globals};
use clap::{Args, Command, CommandFactory, ValueEnum};
use clap_complete::{Shell, generate};
use std::io::Write;

/// Print a completion script for a shell
#[derive(Args)]
#[command(
    long_about = "Print a completion script for a shell, to be put where that shell looks for it.",
    after_help = "Examples:\n  \
                  cairn completions bash > /etc/bash_completion.d/cairn\n  \
                  cairn completions zsh > /usr/local/share/zsh/site-functions/_cairn\n  \
                  cairn completions fish > ~/.config/fish/completions/cairn.fish"
)]
pub struct Completions {
    shell: For,
}

#[derive(Clone, Copy, ValueEnum)]
enum For {
    Bash,
    Zsh,
    Fish,
}

impl Completions {
    pub fn run(&self, _: &Globals) -> exit::Result {
        let shell = match self.shell {
            For::Bash => Shell::Bash,
            For::Zsh => Shell::Zsh,
            For::Fish => Shell::Fish,
        };
        let mut script = Vec::new();
        generate(shell, &mut shown(), "cairn", &mut script);
        let written = std::io::stdout().lock().write_all(&script);
        let _ = judge(written)?;
        Ok(Outcome::Done)
    }
}

/// The command line without its hidden commands, which the generators do not leave out.
fn shown() -> Command {
    let all = Cli::command();
    let commands = all.get_subcommands().filter(|command| !command.is_hide_set());
    Command::new("cairn")
        .disable_help_subcommand(true)
        .version(env!("CARGO_PKG_VERSION"))
        .args(all.get_arguments())
        .subcommands(commands)
}
