//! Files up and down: uploads that wait for their answer, and links that need no token.

use std::sync::Arc;
use std::time::Duration;

use switchboard::api::Deadlines;
use switchboard::blobs::{hex, sha256};
use switchboard::ids::IdKind;
use switchboard::store::rows::uploads::take_upload;
use switchboard::store::uploads::{Holder, TakenUpload, UPLOADS_WAITING_MAX};

use super::served::{Answer, Served, UPLOAD_BYTES_MAX};
use crate::support::{KEEP, Local, chat, delete};

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n and the picture";
const DAY: Duration = Duration::from_secs(24 * 3600);

async fn upload(served: &Served, token: &str, query: &str, bytes: &[u8]) -> Answer {
    let call = served.post(token, &format!("/v1/uploads{query}"));
    let call = call.header("Content-Type", "text/html");
    call.body(bytes).send().await
}

async fn take(local: &Local, id: i64, holder: Holder, now: i64) -> Option<TakenUpload> {
    let store = local.store();
    let taken = store
        .writer()
        .run(0, move |tx| take_upload(tx, id, &holder, now));
    taken.await.unwrap()
}

#[tokio::test]
async fn an_upload_is_kept_as_what_it_is_and_taken_once_by_its_holder() {
    let local = Arc::new(Local::new());
    let served = Served::on(local.clone(), None, Deadlines::default()).await;
    let ada = served.agent("ada").await;
    let large: Vec<u8> = [PNG, &vec![7; 200 * 1024]].concat();
    for bytes in [PNG, &large] {
        let view = upload(&served, &ada, "?name=vase.png", bytes).await.is(201);
        assert_eq!(view["size_bytes"], bytes.len());
        assert_eq!(view["sha256"], hex(&sha256(bytes)));
        assert_eq!(
            (&view["name"], &view["content_type"]),
            (&"vase.png".into(), &"image/png".into())
        );
        assert_eq!(view["expires_at"], "2026-01-06T09:00:00Z");
        let id = served
            .ids()
            .decode(IdKind::Upload, view["id"].as_str().unwrap())
            .unwrap();
        let holder = |token, agent: Option<&str>| Holder {
            token,
            agent: agent.map(str::to_owned),
        };
        let now = served.desk.now();
        for (other, at) in [
            (holder(0, Some("bob")), now),
            (holder(0, None), now),
            (holder(0, Some("ada")), now + 86_400_000_000),
        ] {
            assert_eq!(take(&local, id, other.clone(), at).await, None, "{other:?}");
        }
        let unnamed = async || {
            served
                .desk
                .store()
                .unnamed_files(vec![sha256(bytes)])
                .await
                .unwrap()
        };
        let is_file = bytes.len() > 64 * 1024;
        assert_eq!(
            unnamed().await.is_empty(),
            is_file,
            "it is named while it waits"
        );
        let taken = take(&local, id, holder(0, Some("ada")), now).await.unwrap();
        assert_eq!(
            (taken.sha256, taken.bytes_len),
            (sha256(bytes), bytes.len() as u64)
        );
        assert_eq!(taken.inline.is_none(), is_file);
        assert_eq!(
            take(&local, id, holder(0, Some("ada")), now).await,
            None,
            "taken"
        );
    }
}

#[tokio::test]
async fn an_upload_is_bounded_in_size_number_and_time() {
    let local = Arc::new(Local::new());
    let served = Served::on(local.clone(), None, Deadlines::default()).await;
    let ada = served.agent("ada").await;
    let too_large = vec![7; UPLOAD_BYTES_MAX as usize + 1];
    upload(&served, &ada, "", &too_large)
        .await
        .problem(413, "too-large");
    let declared = format!(
        "POST /v1/uploads HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ada}\r\nTransfer-Encoding: chunked\r\n\r\n\
         {:x}\r\n",
        too_large.len()
    );
    let (status, answer) = served
        .raw(&[declared.as_bytes(), &too_large].concat())
        .await;
    assert_eq!(status, 413, "without a declared length: {answer}");
    upload(&served, &ada, "", b"")
        .await
        .problem(422, "unprocessable");
    for query in ["?name=", "?name=a%2Fb", "?name=a%0Ab", "?file=x"] {
        upload(&served, &ada, query, PNG)
            .await
            .problem(400, "bad-request");
    }
    let reader = served.token("reader", "", &[], &[]).await;
    upload(&served, &reader, "", PNG)
        .await
        .problem(403, "forbidden");
    for _ in 0..UPLOADS_WAITING_MAX {
        upload(&served, &ada, "", PNG).await.is(201);
    }
    upload(&served, &ada, "", PNG)
        .await
        .problem(422, "unprocessable");
    let bob = served.agent("bob").await;
    upload(&served, &bob, "", PNG).await.is(201);
    served.desk.later(DAY);
    upload(&served, &ada, "", PNG).await.is(201);
    served
        .desk
        .store()
        .sweep(KEEP, served.desk.now())
        .await
        .unwrap();
    let store = local.store();
    let left = store.read(|conn, _| {
        Ok(conn.query_row("SELECT count(*) FROM upload", [], |row| {
            row.get::<_, i64>(0)
        })?)
    });
    assert_eq!(left.await.unwrap(), 1, "those past their time are gone");
}

/// A picture and a page in a message, and the paths of their links.
async fn linked(served: &mut Served, token: &str) -> [String; 2] {
    let film: &'static [u8] = (0..200_000_u32)
        .map(|at| (at % 251) as u8)
        .collect::<Vec<_>>()
        .leak();
    let said = chat("cust-7", "See these.")
        .key("m-1")
        .attachment("film.bin", film)
        .attachment("page.html", b"<script>");
    served.deliver([said]).await;
    let id = served.conversation(1).await;
    let path = format!("/v1/conversations/{id}/messages");
    let listed = served.get(token, &path).send().await.ok();
    let mut paths = Vec::new();
    for at in 0..2 {
        let id = listed["items"][0]["attachments"][at]["id"]
            .as_str()
            .unwrap();
        let made = served.post(token, &format!("/v1/attachments/{id}/link?expires_in=15m"));
        let made = made.send().await.ok();
        assert_eq!(
            made["expires_at"].as_str().and_then(|at| at.get(..16)),
            Some("2026-01-05T09:15")
        );
        let url = made["url"].as_str().unwrap().to_owned();
        paths.push(url.strip_prefix("https://desk.example").unwrap().to_owned());
    }
    paths.try_into().unwrap()
}

#[tokio::test]
async fn a_link_gives_the_file_without_a_token_whole_or_in_part() {
    let mut served = Served::new().await;
    let token = served.agent("ada").await;
    let [film, page] = linked(&mut served, &token).await;
    let get = |path: &str| served.client().get(served.url(path));
    let whole = get(&film).send().await.unwrap();
    assert_eq!(
        whole.headers()["cross-origin-resource-policy"],
        "cross-origin"
    );
    assert_eq!(whole.headers()["accept-ranges"], "bytes");
    let tag = whole.headers()["etag"].to_str().unwrap().to_owned();
    let bytes = whole.bytes().await.unwrap();
    assert_eq!(bytes.len(), 200_000);
    for (range, expected) in [
        ("bytes=100000-100009", 100_000..100_010),
        ("bytes=-5", 199_995..200_000),
    ] {
        let part = get(&film).header("Range", range).send().await.unwrap();
        assert_eq!(part.status(), 206);
        let said = format!("bytes {}-{}/200000", expected.start, expected.end - 1);
        assert_eq!(part.headers()["content-range"], said.as_str());
        assert_eq!(
            part.headers()["content-length"],
            expected.len().to_string().as_str()
        );
        assert_eq!(part.bytes().await.unwrap(), bytes.slice(expected));
    }
    for (condition, status) in [(tag.as_str(), 206), ("\"other\"", 200)] {
        let part = get(&film)
            .header("Range", "bytes=0-0")
            .header("If-Range", condition);
        assert_eq!(part.send().await.unwrap().status(), status, "{condition}");
    }
    let outside = served
        .get("", &film)
        .header("Range", "bytes=200000-")
        .send()
        .await;
    assert_eq!(outside.header("content-range"), "bytes */200000");
    outside.problem(416, "out-of-range");
    // What a browser would run is saved, wherever it is from.
    let answer = served.get("", &page).send().await;
    assert_eq!(answer.header("content-type"), "application/octet-stream");
    assert!(
        answer
            .header("content-disposition")
            .starts_with("attachment; ")
    );
    assert!(
        answer
            .header("content-security-policy")
            .ends_with("sandbox")
    );
    assert_eq!(answer.text, "<script>");
}

#[tokio::test]
async fn a_link_ends_with_its_time_its_token_and_its_message_and_bears_no_change() {
    let mut served = Served::new().await;
    let token = served.agent("ada").await;
    let [film, page] = linked(&mut served, &token).await;
    let (id, rest) = page
        .strip_prefix("/files/")
        .unwrap()
        .split_once('?')
        .unwrap();
    let other = film
        .strip_prefix("/files/")
        .unwrap()
        .split_once('?')
        .unwrap()
        .0;
    for changed in [
        format!("/files/{other}?{rest}"),
        page.replace("expires=1", "expires=2"),
        page.replace("by=tok_", "by=tok_0"),
        format!("{page}0"),
    ] {
        served
            .get("", &changed)
            .send()
            .await
            .problem(404, "not-found");
    }
    served
        .get("", &format!("/files/{id}"))
        .send()
        .await
        .problem(400, "bad-request");
    let bob = served.token("agent", "bob", &["backoffice"], &[]).await;
    let link = format!("/v1/attachments/{id}/link");
    served
        .post(&bob, &link)
        .send()
        .await
        .problem(404, "not-found");
    for wrong in ["0s", "25h", "soon"] {
        let asked = served
            .post(&token, &format!("{link}?expires_in={wrong}"))
            .send()
            .await;
        assert_eq!(
            asked.problem(400, "bad-request")["field"],
            "expires_in",
            "{wrong}"
        );
    }
    let eve = served.agent("eve").await;
    let of_eve = served.post(&eve, &link).send().await.ok();
    let of_eve = of_eve["url"]
        .as_str()
        .unwrap()
        .replace("https://desk.example", "");
    assert_eq!(served.get("", &of_eve).send().await.text, "<script>");
    served.revoke(&eve).await;
    served
        .get("", &of_eve)
        .send()
        .await
        .problem(404, "not-found");
    assert_eq!(served.get("", &page).send().await.text, "<script>");
    served.deliver([delete("m-1")]).await;
    served.get("", &page).send().await.problem(404, "not-found");
    served.desk.later(Duration::from_secs(15 * 60));
    served
        .get("", &page)
        .send()
        .await
        .problem(410, "link-expired");
}
