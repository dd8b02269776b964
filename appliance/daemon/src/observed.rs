//! What one shard's thread sees of itself and the engine does not: how busy its loop is, its
//! connections and their bytes, what NFS procedures were called. Counted in cells of that thread, and
//! put together when the control thread asks.

use crate::doors::RealDoors;
use crate::memory::{CONNECTION_BYTES, MEMTABLE_QUARTERS, resident_bytes};
use crate::shard_loop::Share;
use cairn_base::Arena;
use cairn_control::request::{Local, Memory, MemoryLimits, Procedure};
use cairn_engine::ANSWER_BYTES;
use cairn_engine::counters::Count;
use cairn_net::Budget;
use cairn_nfs::{NfsServer, ProcedureCounts};
use cairn_reactor::Handle;
use std::cell::{Cell, OnceCell};
use std::rc::Rc;

#[derive(Default)]
pub struct Traffic {
    pub open: Cell<u64>,
    pub accepted: Count,
    /// Too many, closed as they came.
    pub refused: Count,
    /// Too slow in sending a call or taking answers.
    pub cut: Count,
    pub received: Count,
    pub sent: Count,
}

/// A connection that is counted as open for as long as this exists.
pub struct Open(Rc<Traffic>);

impl Open {
    pub fn new(traffic: &Rc<Traffic>) -> Open {
        traffic.accepted.add(1);
        traffic.open.set(traffic.open.get() + 1);
        Open(traffic.clone())
    }

    pub fn traffic(&self) -> &Traffic {
        &self.0
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
    }
}

pub struct Observed {
    handle: Handle,
    share: Share,
    traffic: Rc<Traffic>,
    procedures: OnceCell<Rc<ProcedureCounts>>,
    budget: OnceCell<Budget>,
    arena: Arena,
    limits: MemoryLimits,
}

impl Observed {
    pub fn new(handle: &Handle, share: Share, arena: &Arena, limits: MemoryLimits) -> Rc<Observed> {
        Rc::new(Observed {
            handle: handle.clone(),
            share,
            traffic: Rc::default(),
            procedures: OnceCell::new(),
            budget: OnceCell::new(),
            arena: arena.clone(),
            limits,
        })
    }

    /// From now on `server` serves here; its connections count in what is answered.
    pub fn serves(&self, server: &NfsServer<RealDoors>, budget: &Budget) -> Rc<Traffic> {
        let first = self.procedures.set(server.counts().clone());
        assert!(first.is_ok() && self.budget.set(budget.clone()).is_ok(), "a shard has one server");
        self.traffic.clone()
    }

    pub fn local(&self) -> Local {
        let stalls = self.handle.stalls();
        let procedures = self.procedures.get().map(|counts| {
            let values = counts.values();
            values.map(|(name, calls, took)| Procedure { name, calls, nanos: took.0 }).collect()
        });
        let usage = self.arena.usage();
        let held = self.budget.get().map_or(0, |budget| budget.bytes() + budget.open_bytes());
        Local {
            memory: Memory {
                limits: self.limits,
                resident_bytes: resident_bytes().unwrap_or(0) as u64,
                arena_bytes: usage.resident_bytes + usage.heap_bytes,
                idle_bytes: usage.idle_bytes,
                network_bytes: held as u64,
                connections_bytes: self.traffic.open.get() * CONNECTION_BYTES as u64,
                answer_bytes: ANSWER_BYTES as u64,
                memtable_quarters: MEMTABLE_QUARTERS as u64,
            },
            useful_work_permille: self.share.permille(),
            busy_ns: self.share.useful().0,
            stalls: stalls.count,
            stall_worst_ns: stalls.worst.0,
            tasks: self.handle.tasks_len() as u64,
            connections: self.traffic.open.get(),
            connections_accepted: self.traffic.accepted.get(),
            connections_refused: self.traffic.refused.get(),
            received_bytes: self.traffic.received.get(),
            sent_bytes: self.traffic.sent.get(),
            procedures: procedures.unwrap_or_default(),
        }
    }
}
