//! How the made-up connector is configured, and everything that it can be told to do wrong.

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};

use connector_api::{
    BuildContext, Connector, ConnectorKind, Error, ExposeSecret as _, Health, Result, SecretRef,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::toy::connector::Toy;
use crate::toy::world::world;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Surface {
    Webhook,
    Poll,
    Stream,
}

/// What is done wrong. Each has a case that must notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Break {
    ClaimsAnotherSurface,
    SecretIsOptional,
    BuildConnects,
    HealthIsAlwaysReady,
    ChecksAreAlwaysReady,
    ChecksAreEmpty,
    SecretInError,
    SecretInLog,
    GarbagePanics,
    UnknownFieldsAreDropped,
    Shouts,
    RefusesEverything,
    LetsEverythingIn,
    ForgetsTheTime,
    HandshakeIsAnEvent,
    KeyPerDelivery,
    KeyFromText,
    AddressAsWritten,
    ForgetsTheThread,
    CursorMovesFirst,
    CursorInMemory,
    NewestFirst,
    AuthIsUnavailable,
    AlwaysStartsAtNow,
    NoFirstCursor,
    EmptyPollMovesCursor,
    PollKeepsItsPlace,
    ListsUnderOtherKeys,
    ListsAllAsAhead,
    AcksFirst,
    AcceptsAtOnce,
    ReconnectStartsAtNow,
    IgnoresStop,
    SendsInCapitals,
    SendsOutsideTheThread,
    ReturnsNoIds,
    EveryReceiptIsRead,
    NewIdPerAttempt,
    LineBreaksAreHeaders,
    EverythingIsUnavailable,
    EverythingIsRejected,
    FilesAreDropped,
    AnySizeIsUploaded,
    FileNamesAreHeaders,
    CopiesAreDropped,
    BlindCopiesAreShown,
    RefusalsAreSilent,
    HtmlIsDropped,
    ImagesHaveNoIds,
    AnySumIsUploaded,
    AnyAddressIsRead,
    AddressesAreReadAsWritten,
    ForgetsTheGrant,
    TakesAnyAnswer,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Which of the worlds to talk to; 0 is away.
    pub world: usize,
    /// How messages come in.
    pub surface: Surface,
    /// The secret shared with the world.
    pub secret: SecretRef,
    /// What to do wrong.
    #[serde(default)]
    pub breaks: Option<Break>,
}

pub struct ToyKind;

impl ConnectorKind for ToyKind {
    const KIND: &'static str = "toy";
    const EXAMPLE: &'static str = "connector = \"toy\"\nqueue = \"frontline\"\nworld = 1\nsurface = \"poll\"\nsecret = { env = \"TOY_SECRET\" }\n";
    type Config = Config;

    fn build(config: Config, context: BuildContext) -> Result<Box<dyn Connector>> {
        let secret = match context.secrets.resolve(&config.secret) {
            Err(_) if config.breaks == Some(Break::SecretIsOptional) => "none".to_owned().into(),
            secret => secret?,
        };
        if config.breaks == Some(Break::BuildConnects) {
            world(config.world).ok_or_else(|| Error::unavailable("the world is away"))?;
        }
        Ok(Box::new(Toy {
            world: config.world,
            surface: config.surface,
            breaks: config.breaks,
            secret: secret.expose_secret().to_owned(),
            place: AtomicUsize::new(0),
            attempts: AtomicUsize::new(0),
            last: Mutex::new(Health::Ready),
            credentials: Arc::clone(context.credentials()),
        }))
    }
}

/// The same with a configuration that takes anything and documents nothing.
pub struct LaxKind;

#[derive(Deserialize, JsonSchema)]
pub struct LaxConfig {
    world: usize,
    surface: Surface,
    secret: SecretRef,
}

impl ConnectorKind for LaxKind {
    const KIND: &'static str = "toy";
    const EXAMPLE: &'static str = "connector = \"toy\"\nworld = \"here\"\n";
    type Config = LaxConfig;

    fn build(config: LaxConfig, context: BuildContext) -> Result<Box<dyn Connector>> {
        let config = Config {
            world: config.world,
            surface: config.surface,
            secret: config.secret,
            breaks: None,
        };
        ToyKind::build(config, context)
    }
}
