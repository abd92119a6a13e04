//! One process whose power is cut: the disk has what was synced, and not what the kernel still held.

use std::fs;
use std::sync::Mutex;
use std::time::Duration;

use super::crowd::Crowd;
use super::disk::{Disk, may_mount, put_data};
use super::{Slices, full};
use crate::daemon::process::{Installation, PATIENCE};
use crate::peers::wait_until;

/// A cut comes by chance within so long after everybody began to write.
const CUT_WITHIN_MS: u64 = 600;

#[test]
fn what_was_acknowledged_is_there_after_a_power_cut_and_nothing_is_doubled() {
    if !may_mount() {
        return;
    }
    let slices = Slices {
        name: "power-cut",
        count: 10,
        seed: 5_201,
        trials: if full() { 20 } else { 2 },
    };
    slices.run(|seed| slice(seed, slices.trials));
}

fn slice(seed: u64, cuts: usize) -> Vec<String> {
    // Dropped after the process that works on it.
    let disk = Mutex::new(Disk::make());
    let at = disk.lock().expect("no panic").path();
    let crowd = Crowd::gather(seed, |daemon| put_data(daemon, &at));
    for cut in 1..=cuts {
        crowd.while_they_write(|| {
            let after = 100 + crowd.chance(CUT_WITHIN_MS);
            std::thread::sleep(Duration::from_millis(after));
            stop(&crowd.daemon);
            disk.lock().expect("no panic").photograph();
            crowd.daemon.kill_9();
            crowd.count("cut");
        });
        disk.lock().expect("no panic").cut();
        crowd.daemon.run();
        crowd.compare(&format!("cut {cut}"));
    }
    crowd.end(&["cut", "unanswered"])
}

/// Returns once none of its threads runs any more.
pub fn stop(daemon: &Installation) {
    daemon.signal("STOP");
    let threads = format!("/proc/{}/task", daemon.pid());
    wait_until("every thread to be stopped", PATIENCE, || {
        let threads = fs::read_dir(&threads).expect("a process");
        threads.flatten().all(|thread| {
            let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            // The name, in brackets, may have anything in it; the state follows.
            stat.rsplit(") ")
                .next()
                .is_some_and(|rest| rest.starts_with('T'))
        })
    });
}
