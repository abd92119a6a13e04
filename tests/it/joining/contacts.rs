//! Who is writing: only verified evidence links identities, and a claim makes a contact of its own.

use expect_test::expect;

use super::{HoursLater, Resolve, check, together};
use crate::support::{Desk, chat, mail, supervisor};

#[tokio::test]
async fn a_forged_from_gets_its_own_contact_and_conversation() {
    check(
        [together([
            mail("ada@example.com", "Where is my order?"),
            mail("ada@example.com", "Please send it elsewhere.").claimed(),
            mail("ada@example.com", "Urgently.").claimed(),
            mail("ada@example.com", "Any news?"),
        ])],
        expect![[r#"
            #1 queued frontline normal [ada@example.com dmarc]
              m1 ada@example.com: Where is my order? | 6 first_of_contact
              m4 ada@example.com: Any news? | 4 open_conversation
            #2 queued frontline normal [ada@example.com claimed]
              m2 ada@example.com: Please send it elsewhere. | 6 first_of_contact
              m3 ada@example.com: Urgently. | 4 open_conversation
        "#]],
    )
    .await;
}

#[tokio::test]
async fn verified_mail_and_a_vouching_webhook_are_one_conversation_and_one_queue_item() {
    check(
        [
            mail("ada@example.com", "Where is my order?").into(),
            chat("cust-7", "Hello, it is me.")
                .with_email("ada@example.com")
                .into(),
            chat("cust-7", "Nothing came yet.").into(),
            mail("ada@example.com", "By mail again.").into(),
        ],
        expect![[r#"
            #1 queued frontline normal [ada@example.com dmarc, cust-7 signed]
              m1 ada@example.com: Where is my order? | 6 first_of_contact
              m2 cust-7: Hello, it is me. | 4 open_conversation
              m3 cust-7: Nothing came yet. | 4 open_conversation
              m4 ada@example.com: By mail again. | 4 open_conversation
        "#]],
    )
    .await;
    let mut desk = Desk::new().await;
    desk.deliver([
        mail("ada@example.com", "Where is my order?"),
        chat("cust-7", "Hello, it is me.").with_email("ada@example.com"),
    ])
    .await;
    let depths = desk.store().queues(supervisor()).await.unwrap();
    let waiting: i64 = depths.iter().map(|queue| queue.waiting).sum();
    assert_eq!(waiting, 1);
}

#[tokio::test]
async fn an_address_that_nobody_vouches_for_is_a_suggestion_and_links_nothing() {
    check(
        [
            mail("ada@example.com", "Where is my order?").into(),
            chat("cust-7", "It is me, Ada!")
                .on("other-chat")
                .with_email("ada@example.com")
                .into(),
        ],
        expect![[r#"
            #1 queued frontline normal [ada@example.com dmarc]
              m1 ada@example.com: Where is my order? | 6 first_of_contact
            #2 queued backoffice normal [cust-7 signed]
              m2 cust-7: It is me, Ada! | 6 first_of_contact
        "#]],
    )
    .await;
    let mut desk = Desk::new().await;
    desk.deliver([chat("cust-7", "It is me, Ada!")
        .on("other-chat")
        .with_email("ada@example.com")])
        .await;
    let contact = desk.conversation(1).await.contact;
    let contact = desk
        .store()
        .contact(supervisor(), contact)
        .await
        .unwrap()
        .unwrap();
    let suggested: Vec<&str> = contact
        .suggestions
        .iter()
        .map(|(_, address)| address.as_str())
        .collect();
    assert_eq!(suggested, ["ada@example.com"]);
}

#[tokio::test]
async fn a_channel_vouches_only_for_what_it_authenticated() {
    check(
        [
            mail("ada@example.com", "Where is my order?").into(),
            chat("cust-7", "Not signed.")
                .with_email("ada@example.com")
                .claimed()
                .into(),
        ],
        expect![[r#"
            #1 queued frontline normal [ada@example.com dmarc]
              m1 ada@example.com: Where is my order? | 6 first_of_contact
            #2 queued frontline normal [cust-7 claimed]
              m2 cust-7: Not signed. | 6 first_of_contact
        "#]],
    )
    .await;
}

#[tokio::test]
async fn a_claimed_sender_is_another_one_on_every_channel() {
    check(
        [
            mail("ada@old-server.example", "Where is my order?")
                .claimed()
                .into(),
            mail("ada@old-server.example", "To sales this time.")
                .claimed()
                .on("sales-mail")
                .into(),
            mail("ada@old-server.example", "Any news?").claimed().into(),
        ],
        expect![[r#"
            #1 queued frontline normal [ada@old-server.example claimed]
              m1 ada@old-server.example: Where is my order? | 6 first_of_contact
              m3 ada@old-server.example: Any news? | 4 open_conversation
            #2 queued frontline normal [ada@old-server.example claimed]
              m2 ada@old-server.example: To sales this time. | 6 first_of_contact
        "#]],
    )
    .await;
}

#[tokio::test]
async fn messages_that_name_nobody_are_of_different_strangers() {
    check(
        [together([
            chat("", "Hello?").anonymous(),
            chat("", "Anybody here?").anonymous(),
        ])],
        expect![[r#"
            #1 queued frontline normal [m1 claimed]
              m1 m1: Hello? | 6 first_of_contact
            #2 queued frontline normal [m2 claimed]
              m2 m2: Anybody here? | 6 first_of_contact
        "#]],
    )
    .await;
}

#[tokio::test]
async fn brands_share_no_contact() {
    check(
        [
            mail("ada@example.com", "Where is my order?").into(),
            mail("ada@example.com", "Where is my outlet order?")
                .on("outlet-mail")
                .into(),
        ],
        expect![[r#"
            #1 queued frontline normal [ada@example.com dmarc]
              m1 ada@example.com: Where is my order? | 6 first_of_contact
            #2 queued outlet normal [ada@example.com dmarc]
              m2 ada@example.com: Where is my outlet order? | 6 first_of_contact
        "#]],
    )
    .await;
}

#[tokio::test]
async fn linking_two_contacts_settles_their_open_conversations() {
    check(
        [
            mail("ada@example.com", "Where is my order?").into(),
            chat("cust-7", "Hello?").into(),
            chat("cust-7", "I am Ada, by the way.").with_email("ada@example.com").into(),
            mail("ada@example.com", "Any news?").into(),
        ],
        expect![[r#"
            #1 queued frontline normal [ada@example.com dmarc, cust-7 signed] -> #2 same_person
              m1 ada@example.com: Where is my order? | 6 first_of_contact
            #2 queued own-matter frontline normal [ada@example.com dmarc, cust-7 signed] -> #1 same_person
              m2 cust-7: Hello? | 6 first_of_contact
              m3 cust-7: I am Ada, by the way. | 4 open_conversation
              m4 ada@example.com: Any news? | 4 open_conversation
        "#]],
    )
    .await;
}

#[tokio::test]
async fn linking_keeps_the_older_conversation_first_whichever_contact_is_older() {
    // The mail contact is older, but what it has open now began after the chat's.
    check(
        [
            mail("ada@example.com", "A question of last year.").into(),
            Resolve(1),
            HoursLater(24 * 30),
            chat("cust-7", "Hello?").into(),
            HoursLater(1),
            mail("ada@example.com", "Where is my order?").into(),
            together([
                chat("cust-7", "Nobody there?"),
                chat("cust-7", "I am Ada, by the way.").with_email("ada@example.com"),
                mail("ada@example.com", "Any news?"),
            ]),
        ],
        expect![[r#"
            #1 resolved frontline normal [ada@example.com dmarc, cust-7 signed] -> #3 continues
              m1 ada@example.com: A question of last year. | 6 first_of_contact
            #2 queued frontline normal [ada@example.com dmarc, cust-7 signed] -> #3 same_person
              m2 cust-7: Hello? | 6 first_of_contact
              m4 cust-7: Nobody there? | 4 open_conversation
              m5 cust-7: I am Ada, by the way. | 4 open_conversation
              m6 ada@example.com: Any news? | 4 open_conversation
            #3 queued own-matter frontline normal [ada@example.com dmarc, cust-7 signed] -> #1 continues -> #2 same_person
              m3 ada@example.com: Where is my order? | 5 continues
        "#]],
    )
    .await;
}

#[tokio::test]
async fn three_contacts_linked_by_one_event_keep_every_conversation() {
    check(
        [
            mail("ada@example.com", "Where is my order?").into(),
            mail("ada@work.example", "Where is my other order?").into(),
            chat("cust-7", "Hello?").into(),
            together([
                chat("cust-7", "All me.").with_email("ada@example.com").with_email("ada@work.example"),
                mail("ada@work.example", "Any news?"),
            ]),
        ],
        expect![[r#"
            #1 queued frontline normal [ada@example.com dmarc, ada@work.example dmarc, cust-7 signed] -> #2 same_person -> #3 same_person
              m1 ada@example.com: Where is my order? | 6 first_of_contact
            #2 queued own-matter frontline normal [ada@example.com dmarc, ada@work.example dmarc, cust-7 signed] -> #1 same_person
              m2 ada@work.example: Where is my other order? | 6 first_of_contact
            #3 queued own-matter frontline normal [ada@example.com dmarc, ada@work.example dmarc, cust-7 signed] -> #1 same_person
              m3 cust-7: Hello? | 6 first_of_contact
              m4 cust-7: All me. | 4 open_conversation
              m5 ada@work.example: Any news? | 4 open_conversation
        "#]],
    )
    .await;
}

#[tokio::test]
async fn contacts_that_are_new_in_the_linking_batch_are_linked_just_the_same() {
    check(
        [together([
            mail("ada@example.com", "Where is my order?"),
            chat("cust-7", "Hello?"),
            chat("cust-7", "I am Ada, by the way.").with_email("ada@example.com"),
        ])],
        expect![[r#"
            #1 queued frontline normal [ada@example.com dmarc, cust-7 signed] -> #2 same_person
              m1 ada@example.com: Where is my order? | 6 first_of_contact
            #2 queued own-matter frontline normal [ada@example.com dmarc, cust-7 signed] -> #1 same_person
              m2 cust-7: Hello? | 6 first_of_contact
              m3 cust-7: I am Ada, by the way. | 4 open_conversation
        "#]],
    )
    .await;
}

async fn version(desk: &Desk) -> i64 {
    let contact = desk.conversation(1).await.contact;
    let found = desk.store().contact(supervisor(), contact).await.unwrap();
    found.expect("the contact is there").version
}

#[tokio::test]
async fn a_contacts_version_moves_with_its_conversations_and_identities_and_not_with_messages() {
    let mut desk = Desk::new().await;
    desk.deliver([mail("ada@example.com", "Where is my order?")])
        .await;
    let first = version(&desk).await;
    desk.deliver([mail("ada@example.com", "Any news?")]).await;
    assert_eq!(version(&desk).await, first);
    desk.deliver([mail("ada@example.com", "And this one?").forward()])
        .await;
    let second = version(&desk).await;
    assert!(second > first, "a conversation was opened");
    desk.deliver([chat("cust-7", "It is me.").with_email("ada@example.com")])
        .await;
    assert!(version(&desk).await > second, "an identity came to it");
}

#[tokio::test]
async fn linking_moves_the_versions_of_the_contact_and_of_every_conversation_that_comes_to_it() {
    let mut desk = Desk::new().await;
    desk.deliver([
        mail("ada@example.com", "Where is my order?"),
        chat("cust-7", "Hello?"),
    ])
    .await;
    desk.resolve(2).await;
    let (contact, resolved) = (version(&desk).await, desk.conversation(2).await.version);
    desk.deliver([chat("cust-7", "It is me.").with_email("ada@example.com")])
        .await;
    assert!(
        desk.conversation(2).await.version > resolved,
        "its contact is another one"
    );
    assert!(version(&desk).await > contact);
}

#[tokio::test]
async fn links_of_a_person_found_to_be_many_are_bounded() {
    let mut desk = Desk::new().await;
    for number in 0..25 {
        let address = format!("ada-{number}@example.com");
        desk.deliver([mail(&address, "Where is my order?")]).await;
    }
    for number in 0..25 {
        let address = format!("ada-{number}@example.com");
        desk.deliver([chat("cust-7", "It is me.").with_email(&address)])
            .await;
    }
    let links = desk.conversation(1).await.detail.links.len();
    assert_eq!(links, 20);
}
