//! `cairn exports`: what is exported to whom, and who is there.

use crate::Globals;
use crate::exit::{self, Error, Outcome};
use crate::live::{self, with_daemon};
use crate::output::{Output, Reader};
use cairn_control::proto::{ExportEntry, ExportsReply, NfsLimits};
use clap::Args;

/// Show the exports in force and who is connected
#[derive(Args)]
#[command(
    long_about = "Show the exports in force with their rules, a line each; then the clients that have \
                  connections, the connections with their limits, and the configuration file: how often \
                  it was read again (SIGHUP), why it was refused the last time if it was, and what in \
                  it holds from the next start on only. --json gives all of it as one object.",
    after_help = "Examples:\n  cairn exports\n  cairn exports --json | jq -r '.clients[].address'"
)]
pub struct Exports {}

impl Exports {
    pub fn run(&self, globals: &Globals) -> exit::Result {
        let socket = live::socket(globals);
        let reply = with_daemon(globals, async |mut client| {
            client.exports().await.map_err(|error| Error::client(socket.display(), error))
        })?;
        let mut out = Output::new(globals.json);
        if globals.json {
            let _: Reader = out.record(&reply, |_| String::new())?;
        } else {
            let mut reader = Reader::Wants;
            for line in lines(&reply) {
                if reader == Reader::Wants {
                    reader = out.line(&line)?;
                }
            }
        }
        out.finish()?;
        Ok(Outcome::Done)
    }
}

fn lines(reply: &ExportsReply) -> Vec<String> {
    let mut lines: Vec<String> = reply.exports.iter().map(export_line).collect();
    let clients = reply.clients.iter();
    lines.extend(clients.map(|c| format!("client {} connections {}", c.address, c.connections)));
    lines.extend(reply.nfs.as_ref().map(limits_line));
    if let Some(config) = &reply.config {
        lines.push(format!("config {config} reloads {}", reply.reloads));
    }
    lines.extend(reply.refused.as_ref().map(|why| format!("refused {why}")));
    if !reply.needs_restart.is_empty() {
        lines.push(format!("needs_restart {}", reply.needs_restart.join(",")));
    }
    lines
}

fn export_line(export: &ExportEntry) -> String {
    format!(
        "export {} {} squash {} anon {}:{} secure {} recall {} id {} ino {} clients {}",
        export.path,
        export.access,
        export.squash,
        export.anon_uid,
        export.anon_gid,
        if export.secure { "yes" } else { "no" },
        if export.recall { "yes" } else { "no" },
        export.id,
        export.ino,
        export.clients.join(",")
    )
}

/// Also a line of `cairn status`.
pub fn limits_line(nfs: &NfsLimits) -> String {
    format!(
        "connections {} max {} per_client_max {} record_seconds_max {} send_seconds_max {} refused {} \
         cut {}{}",
        nfs.connections,
        nfs.connections_max,
        nfs.connections_per_client_max,
        nfs.record_seconds_max,
        nfs.send_seconds_max,
        nfs.connections_refused,
        nfs.connections_cut,
        nfs.recalls_per_client_max
            .map(|most| format!(" recalls_per_client_max {most}"))
            .unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_export_is_a_line_and_a_refused_reload_is_said() {
        let export = ExportEntry {
            path: "/a".into(),
            access: "ro".into(),
            squash: "all".into(),
            anon_uid: 5,
            anon_gid: 6,
            id: 7,
            ino: 8,
            clients: vec!["10.0.0.0/8".into(), "::1/128".into()],
            secure: true,
            recall: false,
        };
        let reply = ExportsReply {
            exports: vec![export],
            config: Some("c.toml".into()),
            refused: Some("line 3: why".into()),
            needs_restart: vec!["pool".into()],
            ..ExportsReply::default()
        };
        let want = [
            "export /a ro squash all anon 5:6 secure yes recall no id 7 ino 8 clients 10.0.0.0/8,::1/128",
            "config c.toml reloads 0",
            "refused line 3: why",
            "needs_restart pool",
        ];
        assert_eq!(lines(&reply), want);
    }
}
