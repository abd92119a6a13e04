//! What channels keep of their credentials: sealed bytes, by channel and name.

use std::sync::Arc;

use crate::support::{Backend, Desk};

pub async fn a_credential_is_kept_per_channel_and_name_over_restarts(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    let [support, sales] = ["support-mail", "sales-mail"].map(|channel| channel.parse().unwrap());
    assert_eq!(desk.store().credential(&support, "oauth").await, Ok(None));
    for (channel, name, sealed) in [
        (&support, "oauth", b"first".to_vec()),
        (&support, "oauth", b"second".to_vec()),
        (&support, "other", b"third".to_vec()),
        (&sales, "oauth", b"fourth".to_vec()),
    ] {
        let saved = desk.store().save_credential(channel, name, sealed);
        saved.await.unwrap();
    }
    desk.crash().await;
    for (channel, name, expected) in [
        (&support, "oauth", Some(b"second".to_vec())),
        (&support, "other", Some(b"third".to_vec())),
        (&sales, "oauth", Some(b"fourth".to_vec())),
        (&sales, "other", None),
    ] {
        let kept = desk.store().credential(channel, name).await;
        assert_eq!(kept, Ok(expected), "{channel} {name}");
    }
}
