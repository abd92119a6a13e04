//! What arrives, whatever carried it: dedupe and threading must be able to work with it.

use connector_api::InboundEvent;

use crate::kit::{Kit, Verdict, as_message, ensure, outbound_reply, same_text};
use crate::line::Line;

/// Scripts, joined emoji, an empty line, markup that is text, quotes.
const TEXT: &str = "Grüße & <b>kein HTML</b> 👩‍👩‍👧 \"zwei\"\n\nשלום עולם\nпривет\n1 < 2";

pub(crate) async fn same_delivery_gives_same_key(kit: &Kit) -> Verdict {
    let line = Line::open(kit).await?;
    let earlier = kit.provider.customer_says("something before").await;
    line.receive(&earlier).await?;
    let cursor = line.intake.cursor();
    let first = kit.provider.customer_says("the same words").await;
    let one = line.receive(&first).await?;
    let second = kit.provider.customer_says("the same words").await;
    let other = line.receive(&second).await?;
    ensure(one.dedupe_key != other.dedupe_key, || {
        format!("two messages have the key {}", one.dedupe_key)
    })?;
    if line.connector.webhook_source().is_some() {
        again(&line, &first, &one).await?;
        // And to a new process that knows nothing of the first.
        return again(&Line::open(kit).await?, &first, &one).await;
    }
    // Where the provider shows an item again, from the cursor before it or by itself.
    line.stop().await?;
    let line = Line::resume(kit, cursor).await?;
    kit.provider.redeliver(&first).await;
    again(&line, &first, &one).await?;
    line.stop().await.map(drop)
}

async fn again(line: &Line<'_>, id: &str, one: &InboundEvent) -> Verdict {
    let repeated = line.receive(id).await?;
    ensure(*one == repeated, || {
        let (one, repeated) = (&one.dedupe_key, &repeated.dedupe_key);
        format!("delivered twice, the event changed: key {one} then {repeated}")
    })
}

pub(crate) async fn customer_text_arrives_unchanged(kit: &Kit) -> Verdict {
    let line = Line::open(kit).await?;
    let id = kit.provider.customer_says(TEXT).await;
    let event = line.receive(&id).await?;
    let text = &as_message(&event)?.text;
    ensure(same_text(text, TEXT), || format!("became {text:?}"))?;
    ensure(event.defects.is_empty(), || {
        format!("has defects: {:?}", event.defects)
    })?;
    ensure(!event.history, || "counts as history".to_owned())?;
    ensure(event.automatic.is_none(), || {
        format!("counts as automatic: {:?}", event.automatic)
    })?;
    line.stop().await.map(drop)
}

pub(crate) async fn sender_has_an_address(kit: &Kit) -> Verdict {
    let line = Line::open(kit).await?;
    let id = kit.provider.customer_says("hello").await;
    let event = line.receive(&id).await?;
    let identities = &as_message(&event)?.from.identities;
    ensure(!identities.is_empty(), || "nobody wrote it".to_owned())?;
    for claim in identities {
        let address = &claim.address;
        let normal = match claim.namespace.as_str() {
            "email" => address.contains('@') && *address == address.to_lowercase(),
            "phone" => address.starts_with('+'),
            namespace => !address.is_empty() && namespace.contains(':'),
        };
        ensure(normal, || {
            format!("{} {address:?} is not normalised", claim.namespace)
        })?;
    }
    line.stop().await.map(drop)
}

/// The customer's answer to our reply must offer the router something of ours to find it by.
pub(crate) async fn reply_carries_thread_hint(kit: &Kit) -> Verdict {
    let line = Line::open(kit).await?;
    let id = kit.provider.customer_says("a question").await;
    let question = line.receive(&id).await?;
    let reply = outbound_reply(&question, "an answer");
    let sender = line.connector.sender().ok_or("no sender")?;
    let receipt = sender
        .send(&reply)
        .await
        .map_err(|error| format!("cannot reply: {error}"))?;
    let delivered = kit.provider.delivered().await;
    let sent = delivered.last().ok_or("the reply did not arrive")?;
    let id = kit.provider.customer_answers(sent, "and one more").await;
    let answer = line.receive(&id).await?;
    let thread = &as_message(&answer)?.thread;
    let ours = |id: &String| receipt.provider_message_ids.contains(id) || *id == reply.id;
    let found = thread.reply_tokens.contains(&reply.reply_token)
        || thread.references.iter().any(ours)
        || (thread.native.is_some() && thread.native == reply.thread);
    ensure(found, || {
        format!("nothing leads back to our reply: {thread:?}")
    })?;
    line.stop().await.map(drop)
}
