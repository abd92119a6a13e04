//! The provider of the made-up connector: everything in memory, looked up by number, since a
//! configuration can carry nothing else.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use connector_api::{
    Bytes, DeliveryStage, Error, OutboundMessage, Registration, Result, WebhookRequest, async_trait,
};
use connector_testkit::{
    Delivered, DeliveredAttachment, FakeProvider, Fault, Handshake, NOW_SECONDS, Side, post,
};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::toy::setup::{Break, LaxKind, Surface, ToyKind};

const SECRET: &str = "a-secret-of-the-toy-world";

static WORLDS: Mutex<Vec<Arc<World>>> = Mutex::new(Vec::new());

/// World 0 is away.
pub fn world(number: usize) -> Option<Arc<World>> {
    let index = number.checked_sub(1)?;
    WORLDS.lock().unwrap().get(index).cloned()
}

pub fn seal(secret: &str, time: i64, body: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    (secret, time, body).hash(&mut hasher);
    hasher.finish().to_string()
}

pub struct World {
    state: Mutex<State>,
    /// Counts items and cuts.
    changes: watch::Sender<u64>,
    connections: watch::Sender<usize>,
}

#[derive(Default)]
struct State {
    items: Vec<Vec<u8>>,
    acknowledged: Vec<String>,
    cuts: usize,
    place: usize,
    delivered: Vec<(String, Delivered)>,
    attempts: usize,
    faults: VecDeque<(Side, Fault)>,
    /// Questions asked, and those agreed to; without a withdrawal no grant is needed.
    questions: usize,
    agreed: Vec<String>,
    wants_grants: bool,
}

/// What the world says to a message.
pub enum Answer {
    Taken(String),
    /// Not for this one, for this reason.
    TakenWithout(String, String, String),
    Later(Duration),
    Broken,
    Lost,
    Unauthorized,
    Refused(String),
    Unreadable,
    Away,
}

impl World {
    pub fn items(&self) -> Vec<Vec<u8>> {
        self.state().items.clone()
    }

    pub fn lets_in(&self) -> bool {
        !matches!(self.fault(Side::Receive), Some(Fault::RejectCredentials))
    }

    /// Asks a person for access.
    pub fn question(&self) -> String {
        let mut state = self.state();
        state.questions += 1;
        format!("may-it-{}", state.questions)
    }

    /// The grant of a question that was agreed to: a word that says so.
    pub fn grant_of(&self, question: &str) -> Option<String> {
        let state = self.state();
        let agreed = state.agreed.iter().any(|known| known == question);
        agreed.then(|| question.to_owned())
    }

    pub fn knows(&self, granted: Option<&str>) -> bool {
        let state = self.state();
        !state.wants_grants
            || granted.is_some_and(|word| state.agreed.iter().any(|one| one == word))
    }

    pub fn acknowledge(&self, id: &str) {
        self.state().acknowledged.push(id.to_owned());
    }

    /// For a connector that lets the world remember how far it has read, and tells it too early.
    pub fn take_place(&self, next: usize) -> usize {
        std::mem::replace(&mut self.state().place, next)
    }

    pub fn connect(self: &Arc<Self>) -> Connection {
        self.connections.send_modify(|count| *count += 1);
        Connection {
            cuts: self.state().cuts,
            changes: self.changes.subscribe(),
            world: Arc::clone(self),
        }
    }

    pub fn take(&self, message: &OutboundMessage, files: &[Bytes], injected: bool) -> Answer {
        self.state().attempts += 1;
        let fault = self.fault(Side::Send);
        match fault {
            Some(Fault::RateLimit { retry_after }) => return Answer::Later(retry_after),
            Some(Fault::ServerError) => return Answer::Broken,
            Some(Fault::RejectCredentials) => return Answer::Unauthorized,
            Some(Fault::Refuse { reason }) => return Answer::Refused(reason),
            Some(Fault::DropAfterAccept | Fault::Garbage | Fault::RefuseRecipient { .. })
            | None => {}
        }
        let id = self.keep(message, files, injected, &fault);
        match fault {
            Some(Fault::RefuseRecipient { address, reason }) => {
                Answer::TakenWithout(id, address, reason)
            }
            Some(Fault::DropAfterAccept) => Answer::Lost,
            Some(_) => Answer::Unreadable,
            None => Answer::Taken(id),
        }
    }

    fn keep(
        &self,
        message: &OutboundMessage,
        files: &[Bytes],
        injected: bool,
        fault: &Option<Fault>,
    ) -> String {
        let mut state = self.state();
        if let Some((_, known)) = state.delivered.iter().find(|(id, _)| *id == message.id) {
            return known.provider_id.clone();
        }
        let mut to: Vec<String> = Vec::new();
        for recipient in message.recipients() {
            let address = &recipient.address;
            let is_refused =
                matches!(fault, Some(Fault::RefuseRecipient { address: no, .. }) if no == address);
            if !is_refused && !to.contains(address) {
                to.push(address.clone());
            }
        }
        let seen = message
            .recipients()
            .filter(|one| !message.bcc.contains(one));
        let seen = seen.map(|one| one.address.clone()).collect();
        to.extend(injected.then(|| "eve@evil.example".to_owned()));
        let files = message.attachments.iter().zip(files);
        let files = files.map(|(file, bytes)| DeliveredAttachment {
            name: file.name.clone(),
            content_type: file.content_type.clone(),
            content_id: file.content_id.clone(),
            bytes: bytes.clone(),
        });
        let provider_id = format!("w-{}", state.delivered.len());
        let delivered = Delivered {
            provider_id: provider_id.clone(),
            to,
            thread: message.thread.clone(),
            text: message.text.clone(),
            html: message.html.clone(),
            seen,
            attachments: files.collect(),
        };
        state.delivered.push((message.id.clone(), delivered));
        provider_id
    }

    fn fault(&self, side: Side) -> Option<Fault> {
        let mut state = self.state();
        let at = state.faults.iter().position(|(at, _)| *at == side)?;
        state.faults.remove(at).map(|(_, fault)| fault)
    }

    fn add(&self, mut item: Value) -> String {
        let mut state = self.state();
        let id = state.items.len().to_string();
        item["id"] = json!(id);
        state.items.push(item.to_string().into_bytes());
        drop(state);
        self.changes.send_modify(|count| *count += 1);
        id
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

pub struct Connection {
    world: Arc<World>,
    cuts: usize,
    changes: watch::Receiver<u64>,
}

impl Connection {
    /// Waits for more than `known` items, or for the cut of this connection.
    pub async fn next(&mut self, known: usize) -> Result<()> {
        loop {
            if self.world.state().cuts != self.cuts {
                return Err(Error::unavailable("the connection was cut"));
            }
            if self.world.state().items.len() > known {
                return Ok(());
            }
            self.changes
                .changed()
                .await
                .map_err(|_| Error::unavailable("the world ended"))?;
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.world.connections.send_modify(|count| *count -= 1);
    }
}

/// The fake: a world, and how the connector is to be set up against it.
pub struct FakeWorld {
    number: usize,
    world: Arc<World>,
    surface: Surface,
    breaks: Option<Break>,
    lax: bool,
}

impl FakeWorld {
    pub async fn start(surface: Surface) -> Self {
        Self::broken(surface, None)
    }

    pub fn broken(surface: Surface, breaks: Option<Break>) -> Self {
        let world = Arc::new(World {
            state: Mutex::default(),
            changes: watch::Sender::new(0),
            connections: watch::Sender::new(0),
        });
        let mut worlds = WORLDS.lock().unwrap();
        worlds.push(Arc::clone(&world));
        Self {
            number: worlds.len(),
            world,
            surface,
            breaks,
            lax: false,
        }
    }

    pub fn lax() -> Self {
        let mut fake = Self::broken(Surface::Poll, None);
        fake.lax = true;
        fake
    }

    fn config_of(&self, number: usize) -> Value {
        let mut config = json!({ "world": number, "surface": self.surface_name(), "secret": { "env": "TOY_SECRET" } });
        if let Some(breaks) = self.breaks {
            config["breaks"] = json!(snake_case(&format!("{breaks:?}")));
        }
        config
    }

    fn surface_name(&self) -> String {
        snake_case(&format!("{:?}", self.surface))
    }
}

fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.extend(c.to_lowercase());
    }
    snake
}

#[async_trait]
impl FakeProvider for FakeWorld {
    fn registration(&self) -> Registration {
        match self.lax {
            true => Registration::of::<LaxKind>(),
            false => Registration::of::<ToyKind>(),
        }
    }

    fn config(&self) -> Value {
        self.config_of(self.number)
    }

    fn unreachable_config(&self) -> Value {
        self.config_of(0)
    }

    fn secrets(&self) -> Vec<(String, String)> {
        vec![("TOY_SECRET".to_owned(), SECRET.to_owned())]
    }

    async fn withdraw_grants(&self) {
        let mut state = self.world.state();
        state.wants_grants = true;
        state.agreed.clear();
    }

    async fn grants(&self, url: &str, code: Option<&str>) -> Option<String> {
        self.world.state().agreed.push(url.to_owned());
        code.is_none().then(|| url.to_owned())
    }

    async fn customer_says(&self, text: &str) -> String {
        self.world
            .add(json!({ "text": text, "thread": "thread-1" }))
    }

    async fn customer_answers(&self, sent: &Delivered, text: &str) -> String {
        self.world
            .add(json!({ "text": text, "thread": sent.thread, "answers": sent.provider_id }))
    }

    fn webhook_for(&self, id: &str) -> WebhookRequest {
        let body = self.world.items()[id.parse::<usize>().unwrap()].clone();
        let seal = seal(SECRET, NOW_SECONDS, &body);
        post(
            [("toy-time", NOW_SECONDS.to_string()), ("toy-seal", seal)],
            body,
        )
    }

    fn handshake(&self) -> Option<Handshake> {
        let seal = seal(SECRET, NOW_SECONDS, b"{}");
        let mut request = post(
            [("toy-time", NOW_SECONDS.to_string()), ("toy-seal", seal)],
            "{}",
        );
        request.query = "challenge".to_owned();
        Some(Handshake {
            request,
            expected_status: 200,
            expected_body: r#"{"well":"done"}"#.into(),
        })
    }

    async fn connected(&self) {
        let mut connections = self.world.connections.subscribe();
        drop(connections.wait_for(|count| *count > 0).await);
    }

    async fn disconnect(&self) {
        self.world.state().cuts += 1;
        self.world.changes.send_modify(|count| *count += 1);
        let mut connections = self.world.connections.subscribe();
        drop(connections.wait_for(|count| *count == 0).await);
    }

    async fn acknowledged(&self, id: &str) -> Option<bool> {
        Some(
            self.world
                .state()
                .acknowledged
                .iter()
                .any(|known| known == id),
        )
    }

    async fn delivered(&self) -> Vec<Delivered> {
        let state = self.world.state();
        state
            .delivered
            .iter()
            .map(|(_, message)| message.clone())
            .collect()
    }

    async fn send_attempts(&self) -> usize {
        self.world.state().attempts
    }

    async fn fail_next(&self, side: Side, fault: Fault) {
        self.world.state().faults.push_back((side, fault));
    }

    async fn reports(&self, sent: &Delivered, stage: DeliveryStage) -> String {
        self.world
            .add(json!({ "of": sent.provider_id, "stage": stage }))
    }
}
