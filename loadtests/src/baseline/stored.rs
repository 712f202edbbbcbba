//! A run as a baseline keeps it.

use crate::regression::FEWEST_BLOCKS;
use crate::result::LoadResult;

/// A run without its warm-up, its blocks merged to longer ones: ten, or a few more. Blocks at
/// its end that do not fill a longer one are left out, so that each lasts as long. Statuses,
/// failures and service times stay those of the whole run.
pub(super) fn stored(run: &LoadResult, warm_up_blocks: u32) -> LoadResult {
    let blocks = run.blocks().saturating_sub(warm_up_blocks);
    let merged = (blocks / FEWEST_BLOCKS).max(1);
    let until = warm_up_blocks + blocks / merged * merged;
    let mut stored = run.clone();
    stored.block_millis *= u64::from(merged);
    for endpoint in stored.endpoints.values_mut() {
        let kept = std::mem::take(&mut endpoint.blocks);
        for (number, block) in kept.range(warm_up_blocks..until) {
            let longer = (number - warm_up_blocks) / merged;
            endpoint.blocks.entry(longer).or_default().add(block);
        }
    }
    stored
}
