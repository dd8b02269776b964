//! The commands, one file each.

mod changes;
mod check;
mod completions;
mod counters;
mod data_wait_err;
mod data_waiting;
mod debug;
mod debug_populate;
mod df;
mod exports;
mod format;
mod get_attr_x;
mod get_fiemap;
mod get_referring_entries;
mod getfattr;
mod ino_path;
mod list_hidden_xattrs;
mod listfattr;
mod man;
mod print;
mod punch_offline;
mod release;
mod resize_devices;
mod scrub;
mod serve;
mod set_attr_x;
mod setattr;
mod setfattr;
mod stage;
mod stat;
mod statfs;
mod status;
mod top;
mod up;
mod version;
mod walk_inodes;

use crate::Globals;
use crate::exit;
use clap::Subcommand;

#[derive(Subcommand)]
pub enum Command {
    Up(up::Up),
    Serve(serve::Serve),
    Format(format::Format),
    Check(check::Check),
    Print(print::Print),
    Status(status::Status),
    Df(df::Df),
    Exports(exports::Exports),
    Statfs(statfs::Statfs),
    Stat(stat::Stat),
    WalkInodes(walk_inodes::WalkInodes),
    Changes(changes::Changes),
    InoPath(ino_path::InoPath),
    GetReferringEntries(get_referring_entries::GetReferringEntries),
    Getfattr(getfattr::Getfattr),
    Setfattr(setfattr::Setfattr),
    Listfattr(listfattr::Listfattr),
    ListHiddenXattrs(list_hidden_xattrs::ListHiddenXattrs),
    Release(release::Release),
    Stage(stage::Stage),
    Setattr(setattr::Setattr),
    GetAttrX(get_attr_x::GetAttrX),
    SetAttrX(set_attr_x::SetAttrX),
    GetFiemap(get_fiemap::GetFiemap),
    PunchOffline(punch_offline::PunchOffline),
    DataWaiting(data_waiting::DataWaiting),
    DataWaitErr(data_wait_err::DataWaitErr),
    ResizeDevices(resize_devices::ResizeDevices),
    Scrub(scrub::Scrub),
    Counters(counters::Counters),
    Top(top::Top),
    Debug(debug::Debug),
    Completions(completions::Completions),
    Man(man::Man),
    Version(version::Version),
    #[command(hide = true)]
    DebugPopulate(debug_populate::DebugPopulate),
}

impl Command {
    /// The command's name, for error lines.
    pub fn verb(&self) -> &'static str {
        match self {
            Command::Up(_) => "up",
            Command::Serve(_) => "serve",
            Command::Format(_) => "format",
            Command::Check(_) => "check",
            Command::Print(_) => "print",
            Command::Status(_) => "status",
            Command::Df(_) => "df",
            Command::Exports(_) => "exports",
            Command::Statfs(_) => "statfs",
            Command::Stat(_) => "stat",
            Command::WalkInodes(_) => "walk-inodes",
            Command::Changes(_) => "changes",
            Command::InoPath(_) => "ino-path",
            Command::GetReferringEntries(_) => "get-referring-entries",
            Command::Getfattr(_) => "getfattr",
            Command::Setfattr(_) => "setfattr",
            Command::Listfattr(_) => "listfattr",
            Command::ListHiddenXattrs(_) => "list-hidden-xattrs",
            Command::Release(_) => "release",
            Command::Stage(_) => "stage",
            Command::Setattr(_) => "setattr",
            Command::GetAttrX(_) => "get-attr-x",
            Command::SetAttrX(_) => "set-attr-x",
            Command::GetFiemap(_) => "get-fiemap",
            Command::PunchOffline(_) => "punch-offline",
            Command::DataWaiting(_) => "data-waiting",
            Command::DataWaitErr(_) => "data-wait-err",
            Command::ResizeDevices(_) => "resize-devices",
            Command::Scrub(_) => "scrub",
            Command::Counters(_) => "counters",
            Command::Top(_) => "top",
            Command::Debug(_) => "debug",
            Command::Completions(_) => "completions",
            Command::Man(_) => "man",
            Command::Version(_) => "version",
            Command::DebugPopulate(_) => "debug-populate",
        }
    }

    pub fn run(self, globals: &Globals) -> exit::Result {
        match self {
            Command::Up(up) => up.run(globals),
            Command::Serve(serve) => serve.run(globals),
            Command::Format(format) => format.run(globals),
            Command::Check(check) => check.run(globals),
            Command::Print(print) => print.run(globals),
            Command::Status(status) => status.run(globals),
            Command::Df(df) => df.run(globals),
            Command::Exports(exports) => exports.run(globals),
            Command::Statfs(statfs) => statfs.run(globals),
            Command::Stat(stat) => stat.run(globals),
            Command::WalkInodes(walk) => walk.run(globals),
            Command::Changes(changes) => changes.run(globals),
            Command::InoPath(path) => path.run(globals),
            Command::GetReferringEntries(entries) => entries.run(globals),
            Command::Getfattr(get) => get.run(globals),
            Command::Setfattr(set) => set.run(globals),
            Command::Listfattr(list) => list.run(globals),
            Command::ListHiddenXattrs(list) => list.run(globals),
            Command::Release(release) => release.run(globals),
            Command::Stage(stage) => stage.run(globals),
            Command::Setattr(set) => set.run(globals),
            Command::GetAttrX(get) => get.run(globals),
            Command::SetAttrX(set) => set.run(globals),
            Command::GetFiemap(get) => get.run(globals),
            Command::PunchOffline(punch) => punch.run(globals),
            Command::DataWaiting(waiting) => waiting.run(globals),
            Command::DataWaitErr(fail) => fail.run(globals),
            Command::ResizeDevices(resize) => resize.run(globals),
            Command::Scrub(scrub) => scrub.run(globals),
            Command::Counters(counters) => counters.run(globals),
            Command::Top(top) => top.run(globals),
            Command::Debug(debug) => debug.run(globals),
            Command::Completions(completions) => completions.run(globals),
            Command::Man(man) => man.run(globals),
            Command::Version(version) => version.run(globals),
            Command::DebugPopulate(populate) => populate.run(globals),
        }
    }
}
