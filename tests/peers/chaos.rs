//! A TCP proxy that breaks what goes through it: forced reconnects, answers that get lost, links that fall silent.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// Forwards `port` to a server, and interferes on demand. It stops, cutting everything, when dropped.
pub struct Chaos {
    pub port: u16,
    shared: Arc<Shared>,
}

impl Chaos {
    pub fn start(upstream_port: u16) -> Chaos {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
        let port = listener
            .local_addr()
            .expect("a bound socket has an address")
            .port();
        let shared = Arc::new(Shared::default());
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || accept(&listener, upstream_port, &accepting));
        Chaos { port, shared }
    }

    /// Cuts every open connection; later ones are served.
    pub fn cut_all(&self) {
        for link in self.shared.links().drain(..) {
            link.cut();
        }
    }

    /// Cuts each connection opened from now on once the server has sent `bytes` over it; the rest is lost.
    pub fn cut_after_bytes(&self, bytes: usize) {
        self.shared.plan().answer_bytes_max = Some(bytes);
    }

    /// Loses the answer to the next request that contains `needle`: the server gets the whole of it and answers, but
    /// the connection is cut instead of the answer being passed on. It happens once.
    ///
    /// `b"\r\n.\r\n"` loses the answer to a mail's content.
    pub fn lose_answer_to(&self, needle: &[u8]) {
        self.shared.plan().lose_answer_to = Some(needle.to_vec());
    }

    /// The same, where the server says more before: the connection is cut once it has said `answer`.
    pub fn lose_answer_with(&self, needle: &[u8], answer: &[u8]) {
        let mut plan = self.shared.plan();
        plan.lose_answer_to = Some(needle.to_vec());
        plan.lost_with = Some(answer.to_vec());
    }

    /// Cuts the client off at the next request that contains `needle`, and keeps what it sent last from the server
    /// until `release`: bytes that are still on their way.
    pub fn hold_back(&self, needle: &[u8]) {
        self.shared.plan().hold_back = Some(needle.to_vec());
    }

    /// Gives the server what was held back, and returns once it has done with it.
    pub fn release(&self) {
        let held = self.shared.held.lock().expect("no holder panics").take();
        let (link, bytes) = held.expect("something was held back");
        link.server.as_ref().write_all(&bytes).ok();
        link.server.shutdown(Shutdown::Write).ok();
        let ended = || link.has_ended.load(Ordering::SeqCst);
        super::wait_until("the server to end the connection", super::PATIENCE, ended);
    }

    /// Swallows everything in both directions, without closing anything, until `heal`.
    pub fn black_hole(&self) {
        self.shared.silent.store(true, Ordering::SeqCst);
    }

    /// Goes back to plain forwarding. What was open is cut, since bytes of it may be missing.
    pub fn heal(&self) {
        *self.shared.plan() = Plan::default();
        self.shared.silent.store(false, Ordering::SeqCst);
        self.cut_all();
    }

    /// Returns how many connections there have been.
    pub fn connections(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Returns how many answers `lose_answer_to` has swallowed.
    pub fn answers_lost(&self) -> usize {
        self.shared.answers_lost.load(Ordering::SeqCst)
    }
}

impl Drop for Chaos {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // The accepting thread sees the flag when it is woken by one more connection.
        TcpStream::connect(("127.0.0.1", self.port)).ok();
        self.cut_all();
    }
}

#[derive(Default)]
struct Shared {
    plan: Mutex<Plan>,
    links: Mutex<Vec<Link>>,
    held: Mutex<Option<(Link, Vec<u8>)>>,
    silent: AtomicBool,
    stopped: AtomicBool,
    accepted: AtomicUsize,
    answers_lost: AtomicUsize,
}

#[derive(Default, Clone)]
struct Plan {
    answer_bytes_max: Option<usize>,
    lose_answer_to: Option<Vec<u8>>,
    /// The answer that is lost, where others come before it.
    lost_with: Option<Vec<u8>>,
    hold_back: Option<Vec<u8>>,
}

impl Shared {
    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().expect("no holder panics")
    }

    fn links(&self) -> MutexGuard<'_, Vec<Link>> {
        self.links.lock().expect("no holder panics")
    }
}

/// One client's connection and the one made for it to the server.
#[derive(Clone)]
struct Link {
    client: Arc<TcpStream>,
    server: Arc<TcpStream>,
    /// Set once the request arrived whose answer is to be lost.
    answer_is_lost: Arc<AtomicBool>,
    /// Set once its client is gone and the server is not to know yet.
    is_held: Arc<AtomicBool>,
    /// Set once the server said its last.
    has_ended: Arc<AtomicBool>,
}

impl Link {
    fn cut(&self) {
        // Either side may be gone already.
        self.client.shutdown(Shutdown::Both).ok();
        self.server.shutdown(Shutdown::Both).ok();
    }
}

fn accept(listener: &TcpListener, upstream_port: u16, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        if shared.stopped.load(Ordering::SeqCst) {
            return;
        }
        let Ok(client) = client else { continue };
        let Ok(server) = TcpStream::connect(("127.0.0.1", upstream_port)) else {
            // Dropping the socket closes it, which is what a client sees of a proxy without its server.
            continue;
        };
        let link = Link {
            client: Arc::new(client),
            server: Arc::new(server),
            answer_is_lost: Arc::default(),
            is_held: Arc::default(),
            has_ended: Arc::default(),
        };
        shared.links().push(link.clone());
        shared.accepted.fetch_add(1, Ordering::SeqCst);
        let answer_bytes_max = shared.plan().answer_bytes_max;
        let (there, back) = (link.clone(), link);
        let (shared_there, shared_back) = (Arc::clone(shared), Arc::clone(shared));
        std::thread::spawn(move || forward_requests(&there, &shared_there));
        std::thread::spawn(move || forward_answers(&back, &shared_back, answer_bytes_max));
    }
}

fn forward_requests(link: &Link, shared: &Shared) {
    let mut buffer = vec![0; 16 * 1024];
    // The end of what was read before, since a needle may lie across two reads.
    let mut recent = Vec::new();
    while let Ok(length @ 1..) = link.client.as_ref().read(&mut buffer) {
        if shared.silent.load(Ordering::SeqCst) {
            continue;
        }
        let bytes = buffer.get(..length).unwrap_or_default();
        recent.extend_from_slice(bytes);
        let found = |needle: &Option<Vec<u8>>| {
            let has = |needle: &Vec<u8>| recent.windows(needle.len()).any(|some| some == needle);
            needle.as_ref().is_some_and(has)
        };
        let mut plan = shared.plan();
        if found(&plan.hold_back) {
            plan.hold_back = None;
            link.is_held.store(true, Ordering::SeqCst);
            link.client.shutdown(Shutdown::Both).ok();
            let held = (link.clone(), bytes.to_vec());
            *shared.held.lock().expect("no holder panics") = Some(held);
            return;
        }
        if found(&plan.lose_answer_to) {
            link.answer_is_lost.store(true, Ordering::SeqCst);
            plan.lose_answer_to = None;
        }
        let wanted = [&plan.hold_back, &plan.lose_answer_to]
            .into_iter()
            .flatten();
        let kept = wanted.map(Vec::len).max().unwrap_or(0);
        recent.drain(..recent.len().saturating_sub(kept));
        drop(plan);
        if link.server.as_ref().write_all(bytes).is_err() {
            break;
        }
    }
    link.cut();
}

fn forward_answers(link: &Link, shared: &Shared, answer_bytes_max: Option<usize>) {
    let mut buffer = vec![0; 16 * 1024];
    let mut left = answer_bytes_max.unwrap_or(usize::MAX);
    let mut lost = Vec::new();
    while let Ok(length @ 1..) = link.server.as_ref().read(&mut buffer) {
        if shared.silent.load(Ordering::SeqCst) {
            continue;
        }
        if link.answer_is_lost.load(Ordering::SeqCst) {
            lost.extend_from_slice(buffer.get(..length).unwrap_or_default());
            let mut plan = shared.plan();
            let has = |answer: &Vec<u8>| lost.windows(answer.len()).any(|some| some == answer);
            if plan.lost_with.as_ref().is_some_and(|answer| !has(answer)) {
                continue;
            }
            plan.lost_with = None;
            drop(plan);
            shared.answers_lost.fetch_add(1, Ordering::SeqCst);
            break;
        }
        if link.is_held.load(Ordering::SeqCst) {
            continue;
        }
        let bytes = buffer.get(..length.min(left)).unwrap_or_default();
        left -= bytes.len();
        if link.client.as_ref().write_all(bytes).is_err() || left == 0 {
            break;
        }
    }
    link.has_ended.store(true, Ordering::SeqCst);
    link.cut();
}
