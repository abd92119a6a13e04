//! Processes whose configurations differ while a new one is brought to one after the other.

use super::{Cluster, state};
use crate::daemon::process::{Installation, PATIENCE, chat, chat_config};
use crate::daemon::shop::Shop;
use crate::peers::{self, wait_until};

#[test]
fn what_only_another_process_knows_waits_for_the_new_configuration_and_is_not_given_up() {
    if !peers::enabled() {
        return;
    }
    let shop = Shop::open();
    let cluster = Cluster::new(chat_config(&shop.url));
    let router = cluster.start("router, dispatch, outbound");
    let with_more = |parts: &str| {
        format!(
            "{}[queues.returns]\n[channels.returns-chat]\nconnector = \"webhook\"\nqueue = \"returns\"\n\
             secrets = [{{ file = \"{{dir}}/secret\" }}]\n",
            cluster.config(parts, &cluster.database())
        )
    };
    let door = Installation::new(&with_more("inbound, api"));
    door.run();
    let token = door.token("ada");
    let answer = door.hook("returns-chat", &chat("m1", "cust-1", "It is too small."));
    assert_eq!(answer.unwrap().status(), 200);
    let waits = || {
        let answer = router.http.get(router.url("/readyz")).send().unwrap();
        let said = answer.text().unwrap();
        said.contains("channel returns-chat is configured at another process")
    };
    wait_until("the router to wait for its configuration", PATIENCE, waits);
    assert_eq!(state(&router, "router"), "degraded");
    let told = router.command(&["doctor"]);
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(
        told.contains("does not have channel returns-chat, queue returns, which others have"),
        "{told}"
    );

    router.write_config(&with_more("router, dispatch, outbound"));
    let reloaded = router.command(&["reload"]);
    assert!(reloaded.status.success(), "{reloaded:?}");
    let claimed = || door.claim(&token, "returns").is_some();
    wait_until("it to be decided", PATIENCE, claimed);
    let letters = cluster
        .postgres
        .rows(cluster.database_name(), "SELECT count(*) FROM dead_letter");
    assert_eq!(letters, ["0"]);
}
