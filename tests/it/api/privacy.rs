//! Holding, exporting and erasing a contact, over HTTP.

use reqwest::Method;
use serde_json::json;
use switchboard::ids::IdKind;

use super::served::Served;
use crate::support::chat;

#[tokio::test]
async fn a_whole_person_is_for_supervisors_of_all_queues_and_reports_for_admins_too() {
    let mut served = Served::new().await;
    served.deliver([chat("cust-7", "where is my order?")]).await;
    let contact = served.desk.conversation(1).await.contact;
    let contact = served.ids().encode(IdKind::Contact, contact.0);
    let path = |what: &str| format!("/v1/contacts/{contact}/{what}");
    let reason = json!({ "reason": "request 17/26" });
    for (role, queues, hold, whole, reports) in [
        ("supervisor", &[][..], 200, true, 200),
        ("supervisor", &["frontline"][..], 200, false, 200),
        ("agent", &[][..], 403, false, 403),
        ("reader", &[][..], 403, false, 403),
        ("admin", &[][..], 403, false, 200),
        ("connector", &[][..], 403, false, 403),
    ] {
        let token = served.token(role, "sue", queues, &[]).await;
        let what = format!("{role} of {queues:?}");
        let held = served
            .call(Method::PUT, &token, &path("hold"))
            .json(&reason)
            .send()
            .await;
        assert_eq!(held.status.as_u16(), hold, "{what}");
        let export = served.get(&token, &path("export")).send().await;
        assert_eq!(
            export.status.as_u16(),
            if whole { 200 } else { 403 },
            "{what}"
        );
        // The hold is on since the first: whoever may erase is told of it.
        let erased = served
            .post(&token, &path("erase"))
            .json(&reason)
            .send()
            .await;
        match whole {
            true => drop(erased.problem(409, "legal-hold")),
            false => drop(erased.problem(403, "forbidden")),
        }
        let listed = served.get(&token, "/v1/erasures").send().await;
        assert_eq!(listed.status.as_u16(), reports, "{what}");
    }
    let token = served.supervisor().await;
    let shown = served
        .get(&token, &format!("/v1/contacts/{contact}"))
        .send()
        .await
        .ok();
    assert_eq!(shown["hold"]["reason"], "request 17/26");
    served
        .call(Method::DELETE, &token, &path("hold"))
        .send()
        .await
        .ok();
    let unsaid = served
        .post(&token, &path("erase"))
        .json(&json!({ "reason": " " }))
        .send()
        .await;
    assert_eq!(unsaid.problem(422, "unprocessable")["field"], "reason");
    let erased = served
        .post(&token, &path("erase"))
        .json(&reason)
        .send()
        .await;
    let erased = erased.is(202);
    let report = served
        .get(
            &token,
            &format!("/v1/erasures/{}", erased["id"].as_str().unwrap()),
        )
        .send()
        .await;
    assert_eq!(report.ok(), erased);
}
