//! At rest every permit, reservation, lock and place in a log was given back.

use crate::machine::Halt;
use crate::world::World;
use cairn_base::Nanos;
use cairn_engine::Held;

/// Long enough for buffered data to be written and for clean-ups to end.
const REST: Nanos = Nanos::from_secs(8);

pub fn check(world: &mut World) -> Result<Result<(), String>, Halt> {
    world.machine().idle(REST)?;
    Ok(world.shards().iter().try_for_each(|shard| judge(shard.id().0, shard.held())))
}

fn judge(shard: u16, held: Held) -> Result<(), String> {
    match held == Held::default() {
        true => Ok(()),
        false => Err(format!("at rest shard {shard} still holds {held:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anything_that_is_still_held_is_found() {
        assert_eq!(judge(0, Held::default()), Ok(()));
        let none = Held::default();
        for held in [
            Held { blocks: 1, ..none },
            Held { log_blocks: 1, ..none },
            Held { locked_inodes: 1, ..none },
            Held { parts: 1, ..none },
            Held { buffered_bytes: 1, ..none },
        ] {
            assert!(judge(0, held).is_err(), "{held:?}");
        }
    }
}
