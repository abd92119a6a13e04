//! What is measured.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::desk::{Daemon, Desk};
use crate::mails::{large, lay_into, question};

/// Who claims at the same time: one may be reading an answer while the next mail comes.
const CLAIMERS: usize = 4;
const PATIENCE: Duration = Duration::from_secs(600);

pub struct Burst {
    pub took: Duration,
    pub cpu_seconds: f64,
    pub rss_max_bytes: u64,
}

impl Burst {
    pub fn per_second(&self, mails: usize) -> f64 {
        mails as f64 / self.took.as_secs_f64()
    }
}

/// A mailbox that filled up while the daemon was not there: from its start until all of it is queued.
pub fn whole_mailbox(desk: &Desk, mails: usize) -> Result<Burst> {
    settle_in(desk)?.stop()?;
    let questions = (0..mails).map(|number| question(number, "burst"));
    lay_into(&desk.maildir()?, questions, now())?;
    let started = Instant::now();
    let daemon = desk.start()?;
    daemon.until("through the mailbox", PATIENCE, |daemon| {
        Ok(daemon.filed()? >= mails)
    })?;
    let took = started.elapsed();
    let usage = daemon.usage();
    daemon.stop()?;
    Ok(Burst {
        took,
        cpu_seconds: usage.cpu_seconds,
        rss_max_bytes: usage.rss_max_bytes,
    })
}

/// From the server's answer to a delivery until an agent has claimed its conversation.
pub struct Latency {
    pub mails: usize,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
}

/// Mails at a constant rate, each claimed as soon as it can be. `meanwhile` is asked before it ends.
pub fn live_mail(
    desk: &Desk,
    rate: u32,
    seconds: u32,
    meanwhile: impl FnOnce() -> Result<()>,
) -> Result<Latency> {
    let daemon = settle_in(desk)?;
    let latency = claimed_live(desk, &daemon, rate, seconds)?;
    meanwhile()?;
    daemon.stop()?;
    Ok(latency)
}

pub struct Beside {
    pub live: Latency,
    pub imported: usize,
}

/// The same while the daemon imports a mailbox that was there long before it.
pub fn beside_a_backfill(desk: &Desk, old: usize, rate: u32, seconds: u32) -> Result<Beside> {
    lay_old(desk, old)?;
    let daemon = desk.start()?;
    daemon.until("importing", PATIENCE, |daemon| Ok(daemon.filed()? > 0))?;
    let live = claimed_live(desk, &daemon, rate, seconds)?;
    let imported = daemon.filed()?.saturating_sub(live.mails);
    daemon.stop()?;
    Ok(Beside { live, imported })
}

/// The same mailbox where nothing of it is imported: what its server takes for so many mails counts
/// there, too.
pub fn beside_old_mail(desk: &Desk, old: usize, rate: u32, seconds: u32) -> Result<Latency> {
    lay_old(desk, old)?;
    live_mail(desk, rate, seconds, || Ok(()))
}

fn lay_old(desk: &Desk, old: usize) -> Result<()> {
    // The mailbox has to exist before mails can be laid into it.
    desk.dovecot
        .deliver("support@shop.example", &question(0, "first"));
    let year_ago = now() - 365 * 24 * 60 * 60;
    let questions = (0..old).map(|number| question(number, "old"));
    lay_into(&desk.maildir()?, questions, year_ago)
}

/// By how much the daemon's memory grows over one mail of this size.
pub fn large_mail(desk: &Desk, bytes_len: usize) -> Result<u64> {
    let daemon = desk.start()?;
    let mail = large(bytes_len);
    daemon.until("idle", PATIENCE, |daemon| {
        let before = daemon.usage().cpu_seconds;
        std::thread::sleep(Duration::from_millis(500));
        Ok(daemon.usage().cpu_seconds - before < 0.02)
    })?;
    let before = daemon.usage().rss_bytes;
    daemon.forget_the_most();
    let filed = daemon.filed()?;
    desk.dovecot.deliver("support@shop.example", &mail);
    daemon.until("through the large mail", PATIENCE, |daemon| {
        Ok(daemon.filed()? > filed)
    })?;
    let most = daemon.usage().rss_max_bytes;
    daemon.stop()?;
    Ok(most.saturating_sub(before))
}

/// Starts the daemon and has it take one mail, so that the mailbox is followed from here on.
fn settle_in(desk: &Desk) -> Result<Daemon> {
    let daemon = desk.start()?;
    desk.dovecot
        .deliver("support@shop.example", &question(0, "first"));
    daemon.until("following the mailbox", PATIENCE, |daemon| {
        Ok(daemon.filed()? > 0)
    })?;
    Ok(daemon)
}

fn claimed_live(desk: &Desk, daemon: &Daemon, rate: u32, seconds: u32) -> Result<Latency> {
    let token = desk.token()?;
    let mails = (rate * seconds) as usize;
    let (delivered, claimed) = (Mutex::new(HashMap::new()), Mutex::new(HashMap::new()));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| -> Result<()> {
        for _ in 0..CLAIMERS {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let Ok(Some(subject)) = claim(daemon, &token) else {
                        continue;
                    };
                    let mut claimed = claimed.lock().unwrap_or_else(PoisonError::into_inner);
                    claimed.insert(subject, Instant::now());
                    if claimed
                        .keys()
                        .filter(|subject| subject.starts_with("live"))
                        .count()
                        >= mails
                    {
                        done.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
        let started = Instant::now();
        for number in 0..mails {
            let due = Duration::from_secs_f64(number as f64 / f64::from(rate));
            std::thread::sleep(due.saturating_sub(started.elapsed()));
            desk.dovecot
                .deliver("support@shop.example", &question(number, "live"));
            let mut delivered = delivered.lock().unwrap_or_else(PoisonError::into_inner);
            delivered.insert(format!("live {number}"), Instant::now());
        }
        let deadline = Instant::now() + Duration::from_secs(60);
        while !done.load(Ordering::Relaxed) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        done.store(true, Ordering::Relaxed);
        Ok(())
    })?;
    let (delivered, claimed) = (
        delivered
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner),
        claimed.into_inner().unwrap_or_else(PoisonError::into_inner),
    );
    let mut took = Vec::new();
    for (subject, at) in &delivered {
        let claimed = claimed
            .get(subject)
            .with_context(|| format!("{subject} was never claimable"))?;
        took.push(claimed.saturating_duration_since(*at).as_secs_f64() * 1000.0);
    }
    took.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let place = ((took.len() as f64 * share) as usize).min(took.len().saturating_sub(1));
        took.get(place).copied().unwrap_or_default()
    };
    Ok(Latency {
        mails,
        p50_ms: at(0.5),
        p99_ms: at(0.99),
        max_ms: at(1.0),
    })
}

/// The subject of the next conversation, within a second.
fn claim(daemon: &Daemon, token: &str) -> Result<Option<String>> {
    let answer = reqwest::blocking::Client::new()
        .post(format!("{}/v1/queues/frontline/claim?wait=1s", daemon.url))
        .bearer_auth(token)
        .send()?;
    if answer.status().as_u16() != 200 {
        return Ok(None);
    }
    let conversation: serde_json::Value = answer.json()?;
    Ok(conversation["subject"].as_str().map(str::to_owned))
}

fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
