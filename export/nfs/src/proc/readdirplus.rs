//! READDIRPLUS (RFC 1813, section 3.3.17): READDIR with a handle and attributes for every entry.
//!
//! Entries come with the attributes that the directory's own tablet can see. The others are asked
//! for, all shards side by side, with one question for each. A shard that is too busy to answer costs
//! its entries their attributes and nobody any waiting: the client asks for those it needs.
//!
//! `dircount` is advice: one entry always goes out if `maxcount` has room for it.

use crate::context::Context;
use crate::limits::READDIR_BYTES_MAX;
use crate::proc::list::{
    COOKIE_OF_DOT_DOT, ENTRY_BYTES_MIN, Item, Packed, Page, Pages, VERIFIER, pack,
};
use crate::wire::{
    Attributes, DirLimits, DirList, Encode, EntryPlus, Handle, ReaddirFailure, ReaddirplusArgs,
};
use cairn_base::door::Doors;
use cairn_base::hash::Map;
use cairn_engine::attr::Attr;
use cairn_engine::op;
use cairn_format::InodeNo;
use cairn_net::xdr::{Encoder, UNIT_BYTES, opaque_bytes};
use futures_util::future::join_all;

/// What attributes and a handle add, each with the word that says they are there.
const PLUS_BYTES: usize =
    UNIT_BYTES + Attributes::BYTES + UNIT_BYTES + opaque_bytes(crate::handle::HANDLE_BYTES);

pub async fn readdirplus<D: Doors>(
    call: &Context<'_, D>,
    args: ReaddirplusArgs<'_>,
    to: &mut Encoder,
) {
    if let Err(failure) = list(call, args, to).await {
        failure.encode(to);
    }
}

async fn list<D: Doors>(
    call: &Context<'_, D>,
    args: ReaddirplusArgs<'_>,
    to: &mut Encoder,
) -> Result<(), ReaddirFailure> {
    let target = call.target(args.dir)?;
    let (dir, export) = (target.ino, target.export.id);
    let parent_may_be_outside = target.export.root != InodeNo::ROOT && dir != target.export.root;
    let whole_bytes = args.maxcount.min(READDIR_BYTES_MAX) as usize;
    let names_bytes = args.dircount as usize;
    let limits = DirLimits { whole_bytes, names_bytes };
    let batch = (whole_bytes / (ENTRY_BYTES_MIN + PLUS_BYTES)).min(names_bytes / ENTRY_BYTES_MIN);
    let mut pages = Pages::new(target, args.cookie, batch);
    let mut page = match pages.next(call).await {
        Ok(page) => page,
        Err(error) => return Err(call.failed(error, dir).await),
    };
    let mut list = DirList::begin(to, Some(call.attributes(&page.dir)), VERIFIER, limits);
    loop {
        complete(call, &mut page).await;
        let packed = pack(&mut list, &page, |list, item| {
            if parent_may_be_outside && item.cookie == COOKIE_OF_DOT_DOT {
                return list.add_plus(&item.entry(), EntryPlus { attributes: None, handle: None });
            }
            let handle = call.sealed(export, item.ino);
            let attributes = item.attr.as_ref().map(|attr| call.attributes(attr));
            list.add_plus(&item.entry(), EntryPlus { attributes, handle: Some(Handle(&handle)) })
        });
        match packed {
            Packed::Done { eof } => return list.finish(eof),
            Packed::WantsMore => {}
        }
        page = match pages.next(call).await {
            Ok(page) => page,
            Err(_) => return list.finish(false), // the next call meets it
        };
    }
}

/// Fills in the attributes that only other shards have.
async fn complete<D: Doors>(call: &Context<'_, D>, page: &mut Page) {
    let missing = |item: &Item| item.attr.is_none().then_some(item.ino);
    let missing: Vec<InodeNo> = page.items.iter().filter_map(missing).collect();
    if missing.is_empty() {
        return;
    }
    let shard = call.shard();
    let asked = shard.group_by_owner(&missing).into_iter().map(|inos| async move {
        // No answer is as good as one without attributes.
        shard.call(op::Attrs { inos }).await.unwrap_or_default()
    });
    let answers = join_all(asked).await.into_iter().flatten().flatten();
    let known: Map<InodeNo, Attr> = answers.map(|attr| (attr.ino, attr)).collect();
    for item in page.items.iter_mut().filter(|item| item.attr.is_none()) {
        item.attr = known.get(&item.ino).copied();
    }
}
