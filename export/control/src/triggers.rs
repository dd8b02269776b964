//! Faults that are set off over the control socket, in a daemon that was started for it.

use crate::bridge::Caller;
use crate::proto::{TriggerEntry, TriggerRequest};
use crate::request::ControlRequest;
use crate::service::parse_ino;
use crate::status;
use cairn_engine::trigger::{Armed, Trigger};
use std::sync::{Mutex, PoisonError};
use tonic::Status;

const EPERM: i32 = 1;
/// Of one daemon.
const KEPT_MAX: usize = 4096;

/// What was set off since the start; `None` where nothing may be.
pub(crate) struct Triggers(Option<Mutex<Vec<Armed>>>);

pub(crate) fn parse(request: &TriggerRequest) -> Result<Armed, Status> {
    let Some(trigger) = Trigger::ALL.into_iter().find(|one| one.name() == request.name) else {
        return Err(status::invalid("no trigger has that name: `cairn debug triggers` lists them"));
    };
    let ino = match request.ino {
        0 => None,
        _ if !trigger.takes_inode() => {
            return Err(status::invalid("this trigger is of no inode: leave --ino out"));
        }
        ino => Some(parse_ino(ino)?),
    };
    Ok(Armed::new(trigger, ino))
}

impl Triggers {
    pub fn new(are_allowed: bool) -> Triggers {
        Triggers(are_allowed.then(Mutex::default))
    }

    fn armed(&self) -> Result<std::sync::MutexGuard<'_, Vec<Armed>>, Status> {
        let all = self.0.as_ref().ok_or_else(|| {
            status::denied(
                EPERM,
                "this daemon sets off no faults: start one for tests with --debug-triggers",
            )
        })?;
        Ok(all.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub async fn arm(&self, armed: Armed, shards: &[Caller]) -> Result<(), Status> {
        {
            let mut all = self.armed()?;
            if all.len() >= KEPT_MAX {
                return Err(status::in_use("so many were set off: start the daemon again"));
            }
            all.push(armed.clone());
        }
        for shard in shards {
            let armed = ControlRequest::Arm(armed.clone());
            shard.call(armed).await.map_err(status::of_call)?;
        }
        Ok(())
    }

    pub fn list(&self) -> Result<Vec<TriggerEntry>, Status> {
        let all = self.armed()?;
        let entry = |trigger: Trigger| {
            let of = all.iter().filter(|armed| armed.trigger == trigger);
            let (fired, armed): (Vec<_>, Vec<_>) = of.partition(|armed| armed.has_fired());
            TriggerEntry {
                name: trigger.name().into(),
                help: trigger.help().into(),
                takes_ino: trigger.takes_inode(),
                armed: armed.len() as u64,
                fired: fired.len() as u64,
            }
        };
        Ok(Trigger::ALL.into_iter().map(entry).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_format::InodeNo;

    #[test]
    fn a_trigger_has_a_name_and_some_an_inode() {
        let of = |name: &str, ino| parse(&TriggerRequest { name: name.into(), ino });
        let armed = of("die-in-stage", 7).expect("it takes one");
        assert_eq!(armed.ino.map(InodeNo::raw), Some(7));
        assert!(of("refuse-zone", 0).is_ok());
        assert!(of("refuse-zone", 7).is_err() && of("what", 0).is_err());
        assert!(Triggers::new(false).list().is_err());
        let all = Triggers::new(true).list().expect("allowed");
        assert_eq!(all.len(), Trigger::ALL.len());
    }
}
