//! The baseline: tokio-tungstenite without anything around it.

use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Result;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

/// Where it connects to.
#[must_use]
pub fn url(port: u16) -> String {
    format!("ws://127.0.0.1:{port}/")
}

/// An open WebSocket as tokio-tungstenite makes it by default.
pub async fn socket(port: u16) -> WebSocketStream<TcpStream> {
    configured(port, WebSocketConfig::default())
        .await
        .expect("an open socket")
}

/// An open WebSocket whose read buffer has this size.
pub async fn with_read_buffer(port: u16, bytes: usize) -> WebSocketStream<TcpStream> {
    let config = WebSocketConfig::default().read_buffer_size(bytes);
    configured(port, config).await.expect("an open socket")
}

/// An open WebSocket with this configuration, or why not.
///
/// # Errors
///
/// What the system or the upgrade says.
pub async fn configured(port: u16, config: WebSocketConfig) -> Result<WebSocketStream<TcpStream>> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    let (socket, _) =
        tokio_tungstenite::client_async_with_config(url(port), stream, Some(config)).await?;
    Ok(socket)
}
