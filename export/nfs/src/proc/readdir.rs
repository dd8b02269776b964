//! READDIR (RFC 1813, section 3.3.16): names and inode numbers, within the client's byte count.

use crate::context::Context;
use crate::limits::READDIR_BYTES_MAX;
use crate::proc::list::{ENTRY_BYTES_MIN, Packed, Pages, VERIFIER, pack};
use crate::wire::{DirLimits, DirList, Encode, ReaddirArgs, ReaddirFailure};
use cairn_base::door::Doors;
use cairn_net::xdr::Encoder;

pub async fn readdir<D: Doors>(call: &Context<'_, D>, args: ReaddirArgs<'_>, to: &mut Encoder) {
    if let Err(failure) = list(call, args, to).await {
        failure.encode(to);
    }
}

async fn list<D: Doors>(
    call: &Context<'_, D>,
    args: ReaddirArgs<'_>,
    to: &mut Encoder,
) -> Result<(), ReaddirFailure> {
    let target = call.target(args.dir)?;
    let dir = target.ino;
    let whole_bytes = args.count.min(READDIR_BYTES_MAX) as usize;
    let limits = DirLimits { whole_bytes, names_bytes: whole_bytes };
    let mut pages = Pages::new(target, args.cookie, whole_bytes / ENTRY_BYTES_MIN);
    let mut page = match pages.next(call).await {
        Ok(page) => page,
        Err(error) => return Err(call.failed(error, dir).await),
    };
    let mut list = DirList::begin(to, Some(call.attributes(&page.dir)), VERIFIER, limits);
    loop {
        match pack(&mut list, &page, |list, item| list.add(&item.entry())) {
            Packed::Done { eof } => return list.finish(eof),
            Packed::WantsMore => {}
        }
        page = match pages.next(call).await {
            Ok(page) => page,
            Err(_) => return list.finish(false), // the next call meets it
        };
    }
}
