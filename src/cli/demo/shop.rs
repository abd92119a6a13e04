//! The shop's side of the chat channel: takes signed deliveries and prints them.

use axum::Router;
use axum::routing::post;
use serde_json::Value;

/// Listens on loopback for the channel's `deliver_url`.
pub struct Shop {
    pub url: String,
}

impl Shop {
    pub async fn start() -> std::io::Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/deliver", listener.local_addr()?);
        let app = Router::new().route("/deliver", post(deliver));
        tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, app).await {
                eprintln!("the shop's chat ended: {error}");
            }
        });
        Ok(Self { url })
    }
}

async fn deliver(axum::Json(body): axum::Json<Value>) -> axum::Json<Value> {
    let to = body
        .pointer("/to/id")
        .and_then(Value::as_str)
        .unwrap_or("?");
    let text = body.get("text").and_then(Value::as_str).unwrap_or_default();
    println!("--> chat to {to}: {text}");
    axum::Json(
        serde_json::json!({ "id": format!("shop-{}", body.get("id").and_then(Value::as_str).unwrap_or("?")) }),
    )
}
