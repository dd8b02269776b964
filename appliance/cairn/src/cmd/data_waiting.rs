//! `cairn data-waiting`: who waits for offline data.

use crate::Globals;
use crate::exit::{self, Error, Outcome};
use crate::live::{with_daemon, with_daemon_until_interrupted};
use crate::output::{Output, Reader};
use cairn_control::Client;
use cairn_control::proto::{DataWaiter, DataWaitingRequest};
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

/// List the clients that wait for offline data
#[derive(Args)]
#[command(
    long_about = "List the clients that wait for offline data: their requests met it, they have been told to \
                  come again, and what they want is to be staged. One a line, by inode and block: the \
                  inode, the first block of 4 KiB that is offline, how many blocks the request needs from there \
                  on, what the client wants (read, write, change_size), for how many seconds it has been \
                  waiting, and its address. A write needs all of the file to be online, a change of size all \
                  that stays of it. A client that asks again is not listed twice; it is listed until its block \
                  is online, or it has not asked for two minutes.\n\n--follow lists them in the order in which \
                  they came, and goes on with those that come until it is interrupted or the daemon stops.",
    after_help = "Examples:\n  cairn data-waiting\n  cairn data-waiting --follow --json\n  \
                  cairn data-waiting -I 4097 -B 255"
)]
pub struct DataWaiting {
    /// List those behind this inode, or with --block behind that block of it
    #[arg(short = 'I', long, value_name = "INO", value_parser = super::stat::ino)]
    inode: Option<u64>,

    /// List those behind this block of the inode
    #[arg(short = 'B', long, value_name = "BLOCK", requires = "inode")]
    block: Option<u64>,

    /// Go on with those that come
    #[arg(long, conflicts_with = "inode")]
    follow: bool,
}

impl DataWaiting {
    pub fn run(&self, globals: &Globals) -> exit::Result {
        let list = async |client: Client| -> Result<(), Error> { self.list(globals, client).await };
        if !self.follow {
            with_daemon(globals, list)?;
            return Ok(Outcome::Done);
        }
        with_daemon_until_interrupted(globals, async |client| {
            let failed = |error| Error::io("signals", &error);
            let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
            let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
            tokio::select! {
                listed = list(client) => listed,
                _ = interrupt.recv() => Ok(()),
                _ = terminate.recv() => Ok(()),
            }
        })?;
        Ok(Outcome::Done)
    }

    async fn list(&self, globals: &Globals, mut client: Client) -> Result<(), Error> {
        let failed = |error| Error::client("", error);
        let request = DataWaitingRequest {
            after_ino: self.inode.unwrap_or(0),
            after_block: self.inode.map_or(0, |_| self.block.unwrap_or(u64::MAX)),
            follow: self.follow,
        };
        let mut pages = client.data_waiting(request).await.map_err(failed)?;
        let mut out = Output::new(globals.json);
        while let Some(page) = pages.next().await.map_err(failed)? {
            for waiter in &page.waiters {
                if out.record(waiter, line)? == Reader::Gone {
                    return Ok(());
                }
            }
            // Who follows wants to see them now.
            if out.flush()? == Reader::Gone {
                return Ok(());
            }
        }
        out.finish()
    }
}

fn line(waiter: &DataWaiter) -> String {
    let DataWaiter { ino, block, blocks, op, age, client } = waiter;
    format!("{ino} {block} {blocks} {op} {age} {client}")
}
