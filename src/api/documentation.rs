//! The parts of the OpenAPI document that no single operation has: what the API is, how to
//! authenticate, and the problems that several operations answer with.

use std::collections::BTreeMap;

use serde_json::Value;
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{Object, ObjectBuilder, SchemaType, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Content, Ref, RefOr, Required, Response, ResponseBuilder};
use utoipa::{IntoParams, IntoResponses, Modify, OpenApi, ToSchema};

use super::auth::{AGENT, AGENT_CHARS_MAX};
use super::problem::{Kind, PROBLEM_JSON, Problem};
use super::request::{IDEMPOTENCY_KEY, IF_MATCH, IdempotencyKey, IfMatch};
use super::views::ConversationView;

/// The document that routes are added to.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Switchboard",
        description = "The queue API of Switchboard: conversations wait in queues, are claimed, \
            read and answered; webhooks come in.\n\n\
            JSON in snake_case, times in RFC 3339 UTC. Lists are pages: `items` and `next_cursor`, \
            which the next request gives as `cursor`. Lists of messages are newest first. What a \
            token may not see does not exist for it: 404. A conversation's ETag is its version; \
            with If-Match an action is refused with 412 once the conversation has changed. \
            Errors are RFC 9457 problems; clients branch on `type`. Only a request whose head is no \
            HTTP (400) or is larger than 64 KiB (431) is answered without a body: nothing of this \
            API has seen it."
    ),
    servers((url = "/", description = "This daemon")),
    components(schemas(Problem, super::conversations::ConversationOrder)),
    tags(
        (name = "Queues", description = "What waits, and taking it"),
        (name = "Conversations", description = "Reading, releasing, ending"),
        (name = "Messages", description = "Reading and answering"),
        (name = "Macros", description = "Answers kept for use again"),
        (name = "Contacts", description = "Who writes"),
        (name = "Surgery", description = "Putting right what was joined wrongly, and undoing that"),
        (name = "Search", description = "Words to messages and contacts"),
        (name = "Events", description = "What changes, as it changes"),
        (name = "Administration", description = "Whether nothing is missing"),
        (name = "Hooks", description = "Where providers deliver"),
        (name = "Operations", description = "Health, metrics, documentation; no token needed")
    ),
    modifiers(&BearerToken, &ProblemList)
)]
pub struct Document;

/// Adds to each operation that takes a token what the token's holder may say beside it.
pub fn with_agent(mut document: utoipa::openapi::OpenApi) -> utoipa::openapi::OpenApi {
    let agent = ParameterBuilder::new()
        .name(AGENT)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(
            "The agent that a backend acts for: only with a token made by `token create --act-as`. \
             What is done is done in the agent's name, within the token's own queues and brands, and with what the agent holds.",
        ))
        .schema(Some(
            ObjectBuilder::new()
                .schema_type(Type::String)
                .min_length(Some(1))
                .max_length(Some(AGENT_CHARS_MAX)),
        ))
        .example(Some("ada".into()));
    let components = document.components.get_or_insert_default();
    let parameters = &mut components.parameters;
    parameters.insert(AGENT.to_owned(), RefOr::T(agent.build()));
    for path in document.paths.paths.values_mut() {
        let operations = [
            &mut path.get,
            &mut path.put,
            &mut path.post,
            &mut path.delete,
            &mut path.patch,
        ];
        for operation in operations.into_iter().flatten() {
            if operation.security.is_some() {
                let reference = Ref::new(format!("#/components/parameters/{AGENT}"));
                let parameters = operation.parameters.get_or_insert_default();
                parameters.push(RefOr::Ref(reference));
            }
        }
    }
    document
}

struct BearerToken;

impl Modify for BearerToken {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("A token made by `switchboard token create`"))
            .build();
        document
            .components
            .get_or_insert_default()
            .add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

/// Lists every problem, so that the documentation can show what `type` refers to.
struct ProblemList;

impl Modify for ProblemList {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let problem = |kind: Kind| {
            serde_json::json!({
                "type": kind.uri(), "status": kind.status(), "title": kind.title()
            })
        };
        let problems: serde_json::Value = Kind::ALL.into_iter().map(problem).collect();
        document.extensions = Some(Extensions::builder().add("x-problems", problems).build());
    }
}

/// The headers are documented where they are read.
impl IntoParams for IfMatch {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let example = Some("\"3\"".into());
        vec![header(IF_MATCH, "Only at this version", example)]
    }
}

impl IntoParams for IdempotencyKey {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let description =
            "Names this request over all tries: done once, and answered with how things stand then";
        vec![header(IDEMPOTENCY_KEY, description, None)]
    }
}

fn header(name: &str, description: &str, example: Option<Value>) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(description))
        .schema(Some(
            ObjectBuilder::new().schema_type(SchemaType::from_iter([Type::String, Type::Null])),
        ))
        .example(example)
        .build()
}

/// What is answered to a change of a conversation.
pub struct Stands;

impl IntoResponses for Stands {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let tag = HeaderBuilder::new()
            .schema(Some(Object::with_type(Type::String)))
            .description(Some("Its new version"));
        let view = Content::new(Some(Ref::from_schema_name(ConversationView::name())));
        let now = ResponseBuilder::new()
            .description("As it stands now")
            .header("ETag", tag.build())
            .content("application/json", view);
        let gone = "Done before under this Idempotency-Key, and not the token's to see any more";
        let gone = ResponseBuilder::new().description(gone);
        [("200", now), ("204", gone)]
            .map(|(status, response)| (status.to_owned(), RefOr::T(response.build())))
            .into()
    }
}

fn answers<const N: usize>(answers: [(u16, &str); N]) -> BTreeMap<String, RefOr<Response>> {
    let schema = || Content::new(Some(Ref::from_schema_name("Problem")));
    let response = |description: &str| {
        ResponseBuilder::new()
            .description(description)
            .content(PROBLEM_JSON, schema())
            .build()
    };
    answers
        .into_iter()
        .map(|(status, description)| (status.to_string(), RefOr::T(response(description))))
        .collect()
}

/// Makes groups of problem responses that operations share.
macro_rules! problems {
    ($($(#[$doc:meta])* $name:ident = $answers:expr;)*) => {$(
        $(#[$doc])*
        pub struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                answers($answers)
            }
        }
    )*};
}

problems! {
    /// Of every operation with a token.
    Authenticated = [
        (401, "The token is missing, unknown or revoked"),
        (403, "The token's role may not do this"),
        (503, "Not possible now; see Retry-After"),
    ];
    /// Of uploads.
    BadUpload = [
        (408, "The file did not arrive in time"),
        (413, "The file is too large"),
        (422, "The file is empty, or too many wait already"),
    ];
    /// Of links to files.
    BadLink = [
        (404, "There is no such file, or the link is not one of ours, or whoever made it may not see the file any more"),
        (410, "The link is past its time"),
        (416, "The range lies outside of the file"),
    ];
    OutOfRange = [(416, "The range lies outside of the file")];
    /// Of files.
    NotStored = [(409, "The file is not here (yet)")];
    /// Of operations with parameters.
    BadParameters = [(400, "A parameter or header cannot be read; `field` names it")];
    TooBroad = [(422, "The search would take too long: give more or rarer words, or a queue")];
    TooMany = [(429, "The token has too many searches under way; see `Retry-After`")];
    NoSuchThing = [(404, "There is no such thing, or the token may not see it")];
    /// Of operations that change a conversation.
    Contested = [
        (403, "The token's role may not do this, or the conversation is another agent's"),
        (409, "The conversation's `state` does not allow this; `holder` has it"),
        (412, "The conversation is not at the version of If-Match any more"),
    ];
    /// Of things with a version that are no conversation.
    StaleVersion = [(412, "It is not at the version of If-Match any more")];
    /// Of claims under a key.
    ClaimedBefore = [
        (409, "What the Idempotency-Key claimed is not the agent's any more: `state`, `holder`"),
        (422, "The Idempotency-Key was used for another request"),
    ];
    /// Of operations without a body that take a key.
    KeyReused = [(422, "This takes no body, or the Idempotency-Key was used for another request")];
    /// Of contacts.
    MergedAway = [(409, "It was merged into another one, which stands for it now: `merged_into`")];
    /// Of erasures.
    Kept = [(409, "A legal hold keeps it, or it was merged into another one: `merged_into`")];
    /// Of surgery.
    Operable = [
        (403, "The token's role may not do this, or a conversation is another agent's"),
        (409, "Not as things stand: `state`, `merged_into`, `undo_first` or `undone_by` say why"),
        (412, "A conversation or contact is not at the version named any more"),
    ];
    /// Of settling a message.
    Unsettled = [
        (403, "The token's role may not do this, or the conversation is another agent's"),
        (409, "The message is not held: `delivery` says how it stands; or its channel cannot send any more"),
    ];
    /// Of operations that take a JSON body.
    BadBody = [
        (400, "The body or a header cannot be read; a required Idempotency-Key is missing"),
        (408, "The body did not arrive in time"),
        (413, "The body is too large"),
        (415, "The body is not application/json"),
        (422, "`field` is missing, unknown or unusable, or the Idempotency-Key was used for another request"),
    ];
    /// Of operations that take no body.
    UnexpectedBody = [
        (400, "The body or a header cannot be read"),
        (408, "The body did not arrive in time"),
        (413, "The body is too large"),
        (422, "This takes no body"),
    ];
    /// Of webhooks.
    HookRefused = [
        (400, "The body cannot be read; says where"),
        (401, "The connector did not accept the signature or token; nothing was stored"),
        (404, "There is no such webhook channel"),
        (408, "The body did not arrive in time"),
        (413, "The body is too large"),
        (503, "Not durable, not accepted: deliver again after Retry-After"),
    ];
    NotReady = [(503, "The daemon cannot do its work yet; `states` says which part")];
}
