//! A macro as it is written: every field checked, and all of them together.

use connector_api::{BrandId, QueueId};
use serde_json::{Map, Value};

use crate::api::App;
use crate::api::body::TEXT_CHARS_MAX;
use crate::api::fields::{Fields, wrong};
use crate::api::problem::{ApiError, ApiResult};
use crate::api::verbs::{attributes, priority};
use crate::api::written::{HTML_CHARS_MAX, SUBJECT_CHARS_MAX, from_html};
use crate::dispatch::macros::{Macro, NAME_CHARS_MAX, SNOOZE_SECONDS_MAX, Template};
use crate::dispatch::verbs::{TAG_CHARS_MAX, TAGS_MAX};

const FIELDS: [&str; 13] = [
    "name",
    "text",
    "html",
    "subject",
    "priority",
    "add_tags",
    "remove_tags",
    "attributes",
    "transfer_queue",
    "snooze_seconds",
    "resolve",
    "queues",
    "brands",
];

pub(super) fn content_of(app: &App, object: &Map<String, Value>) -> ApiResult<Macro> {
    let fields = Fields::of(object, &FIELDS)?;
    let template = |name: &str, chars_max: usize| {
        let text = fields.text(name, chars_max)?;
        if let Some(Err(error)) = text.as_deref().map(Template::parse) {
            return Err(wrong(name, format!("\"{name}\": {error}")));
        }
        Ok::<_, ApiError>(text)
    };
    let queues = app.state.known_queues.now();
    let known: Vec<&str> = queues.iter().map(QueueId::as_str).collect();
    let queue = |name: &str, queue: String| one_of(&known, name, "queue", queue);
    let brands = app.state.known_brands.now();
    let known_brands: Vec<&str> = brands.iter().map(BrandId::as_str).collect();
    let brands = fields.lines("brands", 1_000, 64)?.into_iter();
    let transfer = fields.line("transfer_queue", 64)?;
    let queues = fields.lines("queues", 1_000, 64)?.into_iter();
    let content = Macro {
        name: match fields.line("name", NAME_CHARS_MAX)? {
            Some(name) => name.trim().to_owned(),
            None => return Err(wrong("name", "\"name\" is missing")),
        },
        text: template("text", TEXT_CHARS_MAX)?,
        html: template("html", HTML_CHARS_MAX)?,
        subject: template("subject", SUBJECT_CHARS_MAX)?,
        priority: priority(&fields)?,
        add_tags: fields.lines("add_tags", TAGS_MAX, TAG_CHARS_MAX)?,
        remove_tags: fields.lines("remove_tags", TAGS_MAX, TAG_CHARS_MAX)?,
        attributes: attributes(&fields)?,
        transfer_queue: transfer
            .map(|name| queue("transfer_queue", name))
            .transpose()?,
        snooze_seconds: snooze_of(&fields)?,
        resolve: fields.flag("resolve")?,
        queues: queues
            .map(|name| queue("queues", name))
            .collect::<ApiResult<_>>()?,
        brands: brands
            .map(|name| one_of(&known_brands, "brands", "brand", name))
            .collect::<ApiResult<_>>()?,
    };
    consistent(content)
}

/// A name that is configured.
fn one_of(known: &[&str], field: &str, what: &str, name: String) -> ApiResult<String> {
    match known.contains(&name.as_str()) {
        true => Ok(name),
        false => {
            let problem = wrong(field, format!("there is no {what} {name:?}"));
            Err(problem.allowed(known.iter().copied()))
        }
    }
}

fn snooze_of(fields: &Fields<'_>) -> ApiResult<Option<u64>> {
    let Some(value) = fields.get("snooze_seconds") else {
        return Ok(None);
    };
    match value.as_u64() {
        Some(seconds) if (1..=SNOOZE_SECONDS_MAX).contains(&seconds) => Ok(Some(seconds)),
        _ => Err(wrong(
            "snooze_seconds",
            format!("\"snooze_seconds\" must be a number from 1 to {SNOOZE_SECONDS_MAX}"),
        )),
    }
}

/// A macro that can be used at all.
fn consistent(mut content: Macro) -> ApiResult<Macro> {
    let ends = [
        content.transfer_queue.is_some(),
        content.snooze_seconds.is_some(),
        content.resolve,
    ];
    if ends.into_iter().filter(|end| *end).count() > 1 {
        return Err(wrong(
            "resolve",
            "a macro hands on, puts off or resolves: one of \"transfer_queue\", \"snooze_seconds\" and \"resolve\"",
        ));
    }
    if content.subject.is_some() && !content.writes() {
        return Err(wrong("subject", "a macro without a text has no subject"));
    }
    // Who reads no HTML reads the text.
    if let (None, Some(html)) = (&content.text, &content.html) {
        content.text = Some(from_html(html)?);
    }
    Ok(content)
}
