//! Clocks, counters and quantiles.

use std::fs;
use std::time::Duration;

use serde::Serialize;

/// Times of many operations of one kind.
#[derive(Debug, Default)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn push(&mut self, took: Duration) {
        self.0.push(took);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The quantile by the nearest-rank method, in milliseconds; 0 of nothing.
    pub(crate) fn quantile_ms(&mut self, share: f64) -> f64 {
        self.0.sort_unstable();
        let rank = (share * self.0.len() as f64).ceil() as usize;
        let place = rank.clamp(1, self.0.len().max(1)) - 1;
        self.0.get(place).map_or(0.0, |took| millis(*took))
    }
}

/// Milliseconds with a fraction.
pub(crate) fn millis(span: Duration) -> f64 {
    round(span.as_secs_f64() * 1e3)
}

/// Three digits after the point: nobody reads more.
pub(crate) fn round(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// Something that happened `count` times in a span, for each second.
pub(crate) fn per_second(count: usize, span: Duration) -> f64 {
    round(count as f64 / span.as_secs_f64().max(1e-9))
}

/// The mean of some numbers; 0 of none.
pub(crate) fn mean(values: impl IntoIterator<Item = f64>) -> f64 {
    let (count, sum) = values
        .into_iter()
        .fold((0.0, 0.0), |(count, sum), value| (count + 1.0, sum + value));
    if count > 0.0 { round(sum / count) } else { 0.0 }
}

/// Processor time that this process has used, in its own code and in the kernel's.
pub(crate) fn cpu_time() -> Duration {
    use nix::sys::resource::{UsageWho, getrusage};
    use nix::sys::time::TimeValLike as _;
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else {
        return Duration::ZERO;
    };
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

/// Processor time for each request, both ends together.
pub(crate) fn cpu_ms_per_rpc(cpu: Duration, requests: u64) -> f64 {
    round(cpu.as_secs_f64() * 1e3 / requests.max(1) as f64)
}

/// Resident memory of this process in bytes; 0 where the system does not say.
pub(crate) fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = status.lines().find_map(|line| {
        line.strip_prefix("VmRSS:")?
            .trim()
            .strip_suffix("kB")?
            .trim()
            .parse::<u64>()
            .ok()
    });
    kib.unwrap_or(0) * 1024
}

/// How lookups went.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Lookups {
    pub(crate) count: usize,
    pub(crate) concurrency: usize,
    pub(crate) per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p90_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) rpcs_mean: f64,
    /// Share of the answers that were the true k closest.
    pub(crate) exact_share: f64,
    /// Connections that had to be opened meanwhile.
    pub(crate) dialled: u64,
    pub(crate) cpu_ms_per_rpc: f64,
    pub(crate) rpcs_per_second: f64,
}

/// How single values went.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Values {
    pub(crate) count: usize,
    pub(crate) bytes: usize,
    pub(crate) concurrency: usize,
    /// What was measured when.
    pub(crate) order: &'static str,
    pub(crate) puts_per_second: f64,
    pub(crate) gets_per_second: f64,
    pub(crate) put_p50_ms: f64,
    pub(crate) put_p99_ms: f64,
    pub(crate) get_p50_ms: f64,
    pub(crate) get_p99_ms: f64,
    /// Requests of a put until the last holder was told, which is after the caller went on.
    pub(crate) put_rpcs_mean: f64,
    pub(crate) get_rpcs_mean: f64,
    /// Acknowledged copies of each value, when all were told.
    pub(crate) acknowledged_mean: f64,
    pub(crate) acknowledged_min: usize,
    /// Share of all gets that gave back what was put.
    pub(crate) found_share: f64,
    /// Flushes of all stores for each put, with redb each an fsync.
    pub(crate) flushes_per_put: f64,
    pub(crate) flush_mean_ms: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_by_nearest_rank() {
        let mut times = Times::default();
        assert_eq!(times.quantile_ms(0.5), 0.0);
        (1..=100)
            .rev()
            .for_each(|ms| times.push(Duration::from_millis(ms)));
        assert_eq!(
            (
                times.quantile_ms(0.5),
                times.quantile_ms(0.99),
                times.quantile_ms(1.0)
            ),
            (50.0, 99.0, 100.0)
        );
    }

    #[test]
    fn this_process_uses_memory_and_time() {
        assert!(resident_bytes() > 100_000);
        let before = cpu_time();
        while cpu_time() == before {}
    }
}
