//! What a service manager hears of the router: signs of life while it decides, has nothing to decide or says why it does not,
//! and none while it stands still in silence.

use std::os::unix::net::UnixDatagram;
use std::sync::{Arc, Condvar, Mutex};

use switchboard::bus::{Bus, Envelope};
use switchboard::daemon::notify::{Introduction, Manager};
use switchboard::daemon::watch::Watch;
use switchboard::health::State;
use switchboard::router::Prepared;

use super::{Routed, until};
use crate::support::chat;

/// Whether triage goes on; until then it stands still.
static GOES_ON: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());

fn stands_still(offset: i64, envelope: Arc<Envelope>) -> Prepared {
    let (goes_on, told) = &GOES_ON;
    let waited = told.wait_while(goes_on.lock().unwrap(), |goes_on| !*goes_on);
    drop(waited.unwrap());
    Prepared::new(offset, envelope)
}

/// Lets triage go on, at the latest when the test has failed: the runtime waits for it.
struct GoesOn;

impl Drop for GoesOn {
    fn drop(&mut self) {
        *GOES_ON.0.lock().unwrap() = true;
        GOES_ON.1.notify_all();
    }
}

/// What one look tells.
fn heard(watch: &mut Watch, manager: &UnixDatagram) -> Vec<String> {
    watch.look();
    let mut said = Vec::new();
    let mut datagram = [0; 1024];
    while let Ok(length) = manager.recv(&mut datagram) {
        said.push(String::from_utf8(datagram[..length].to_vec()).unwrap());
    }
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_that_stands_still_while_records_wait_gives_no_sign_of_life_unless_it_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_nonblocking(true).unwrap();
    let manager = Manager::new(&Introduction {
        notify_socket: Some(path.into()),
        ..Introduction::default()
    });

    let goes_on = GoesOn;
    let mut routed = Routed::new().await;
    let (running, stop, health) = routed.start_with(stands_still);
    until("the router runs", || !health.snapshot().is_empty()).await;
    let mut watch = Watch::new(Arc::new(manager), routed.bus(), health.clone());
    let mut hear = || heard(&mut watch, &socket);
    assert_eq!(hear(), ["STATUS=all is well", "WATCHDOG=1"]);
    assert_eq!(hear(), ["WATCHDOG=1"], "nothing to decide");

    routed.desk.accept_at_once([chat("ada", "Hello?")]).await;
    assert_eq!(hear(), ["WATCHDOG=1"], "it may have come just now");
    let still = "STATUS=the router stands still: 1 record waits, and none is decided";
    assert_eq!(hear(), [still]);
    assert_eq!(hear(), [""; 0]);

    let reason = "no broker answers".to_owned();
    health.set("bus", State::Unreachable { reason });
    let told = "STATUS=bus is unreachable: no broker answers";
    assert_eq!(hear(), [told, "WATCHDOG=1"], "an outage is no standstill");
    health.set("bus", State::Ready);
    assert_eq!(hear(), [still]);

    drop(goes_on);
    until("everything is decided", || routed.bus().lag() == 0).await;
    assert_eq!(hear(), ["STATUS=all is well", "WATCHDOG=1"]);
    stop.cancel();
    running.await.unwrap();
}
