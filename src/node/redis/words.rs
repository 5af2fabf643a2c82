//! The hints of gateways for each other, over a server's publish and subscribe.
//!
//! On connections of their own, without a handshake: a hint changes nothing about a lock.

use std::time::Duration;

use futures_util::StreamExt;
use redis::aio::PubSubStream;
use redis::{Client, RedisError};
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::NodeAddress;
use super::connection::connect_fault;
use crate::node::{Fault, Said};

const CHANNEL: &str = "redlockd:words";
/// How often a quiet subscription is tried, which nobody would notice the loss of.
const BEAT: Duration = Duration::from_secs(5);
/// How long connecting or a call may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// How many hints go out in one call.
const AT_ONCE: usize = 64;

/// Says what comes from `to_say` and passes on what others say, until that is not possible any more.
pub async fn converse(address: &NodeAddress, to_say: &mut Receiver<Said>, heard: &Sender<Said>) -> Fault {
    match try_to(address, to_say, heard).await {
        Ok(()) => Fault::Lost("the server has closed the connection".into()),
        Err(fault) => fault,
    }
}

/// Ends well when the server ends it.
async fn try_to(address: &NodeAddress, to_say: &mut Receiver<Said>, heard: &Sender<Said>) -> Result<(), Fault> {
    let client = Client::open(address.connection_info()).map_err(|error| Fault::Refused(error.category().to_owned()))?;
    let mut speaks = within(client.get_multiplexed_async_connection()).await?;
    let (mut listens, stream) = within(client.get_async_pubsub()).await?.split();
    within(listens.subscribe(CHANNEL)).await?;
    let mut listening = std::pin::pin!(pass_on(stream, heard));
    let mut beat = interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = &mut listening => return Ok(()),
            Some(said) = to_say.recv() => {
                let mut call = redis::pipe();
                call.publish(CHANNEL, said.to_string()).ignore();
                while call.len() < AT_ONCE
                    && let Ok(more) = to_say.try_recv()
                {
                    call.publish(CHANNEL, more.to_string()).ignore();
                }
                within(call.query_async::<()>(&mut speaks)).await?;
            }
            // Any answer will do, also that this user may not.
            _ = beat.tick() => within(listens.ping::<redis::Value>()).await.map(drop)?,
        }
    }
}

/// Until the server ends it. What there is no room for is lost, as any hint may be.
async fn pass_on(mut stream: PubSubStream, heard: &Sender<Said>) {
    while let Some(message) = stream.next().await {
        if let Some(said) = message.get_payload::<String>().ok().and_then(|text| text.parse().ok()) {
            let _ = heard.try_send(said);
        }
    }
}

async fn within<T>(call: impl Future<Output = Result<T, RedisError>>) -> Result<T, Fault> {
    match timeout(PATIENCE, call).await {
        Ok(answer) => answer.map_err(|error| connect_fault(&error)),
        Err(_) => Err(Fault::NotSent("no answer in time".into())),
    }
}
