//! How many runs at a time this machine has memory for.

use crate::cli::machine;
use crate::cli::reply::Failure;
use crate::cli::table::memory;

/// How many runs at a time, each of which takes so many bytes at its peak: what was asked for, or as many as there are
/// cores and memory for.
///
/// # Errors
/// If there is not memory enough for what was asked for, or for a single run.
pub(super) fn threads(
    each: u64,
    seeds: usize,
    asked: Option<u64>,
    available: Option<u64>,
) -> Result<usize, Failure> {
    let most = asked
        .map_or_else(machine::cores, |threads| threads as usize)
        .min(seeds);
    // A system that does not say what it has is taken at its word.
    let Some(available) = available else {
        return Ok(most);
    };
    let room = usize::try_from(available / each.max(1)).unwrap_or(usize::MAX);
    if room == 0 {
        return Err(Failure::usage(format!(
            "a run needs about {} of memory and this machine has {} available; give fewer --nodes",
            memory(each),
            memory(available)
        )));
    }
    if asked.is_some() && room < most {
        return Err(Failure::usage(format!(
            "{most} runs at a time need about {} of memory and this machine has {} available; give --threads {room} or \
             fewer --nodes",
            memory(each.saturating_mul(most as u64)),
            memory(available)
        )));
    }
    Ok(most.min(room))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn no_more_runs_at_a_time_than_there_is_memory_for() {
        assert_eq!(threads(GIB, 8, Some(4), Some(9 * GIB)), Ok(4));
        assert_eq!(threads(GIB, 2, Some(4), Some(2 * GIB)), Ok(2), "only two seeds");
        let told = |failure: Result<usize, Failure>| format!("{:?}", failure.expect_err("there is no room"));
        let refused = told(threads(3 * GIB, 1, None, Some(2 * GIB)));
        for words in ["3.0 GiB", "2.0 GiB", "--nodes"] {
            assert!(refused.contains(words), "{refused}");
        }
        let refused = told(threads(3 * GIB, 8, Some(4), Some(7 * GIB)));
        assert!(
            refused.contains("12.0 GiB") && refused.contains("--threads 2"),
            "{refused}"
        );
        // Who does not say how many gets as many as there is room for.
        assert_eq!(threads(3 * GIB, 8, None, Some(4 * GIB)), Ok(1));
        assert_eq!(
            threads(3 * GIB, 8, Some(3), None),
            Ok(3),
            "where the system says nothing"
        );
    }
}
