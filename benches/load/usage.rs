//! What a process uses, as the kernel counts it.

use std::path::Path;

/// What the kernel counts for a process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    pub cpu_seconds: f64,
    pub rss_bytes: u64,
    pub rss_max_bytes: u64,
    /// Bytes that the process caused to be sent to the disk.
    pub written_bytes: u64,
}

/// Reads a process's figures; zeros where the kernel does not tell.
pub fn usage(pid: u32) -> Usage {
    let read = |name: &str| {
        std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join(name))
            .unwrap_or_default()
    };
    let status = read("status");
    let input_output = read("io");
    // proc(5): utime and stime are fields 14 and 15, counted in ticks of 1/100 s; field 2 may hold blanks.
    let stat = read("stat");
    let ticks: u64 = stat
        .rsplit(')')
        .next()
        .map(|rest| {
            rest.split_whitespace()
                .skip(11)
                .take(2)
                .filter_map(|field| field.parse::<u64>().ok())
                .sum()
        })
        .unwrap_or(0);
    Usage {
        cpu_seconds: ticks as f64 / 100.0,
        rss_bytes: field(&status, "VmRSS:") * 1024,
        rss_max_bytes: field(&status, "VmHWM:") * 1024,
        written_bytes: field(&input_output, "write_bytes:"),
    }
}

fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|value| value.split_whitespace().next())
        .and_then(|value| value.parse().ok())
        .unwrap_or(0)
}
