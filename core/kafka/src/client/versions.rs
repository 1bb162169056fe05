//! Which versions of which requests are spoken.

use kafka_protocol::messages::{self as m, ApiKey};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion};

use super::cluster::Address;
use crate::error::KafkaError;

/// A request this client sends.
///
/// The newest versions are chosen so that topics go by name and transactions by the protocol in which a producer keeps its id and epoch
/// over a transaction: whoever knows both can end it, also another process, also later. (With EndTxn 5 and Produce 12 the epoch
/// changes with each transaction.)
pub(crate) trait Spoken: Encodable + HeaderVersion {
    /// The answer to it.
    type Response: Decodable + HeaderVersion;
    /// Its number.
    const KEY: i16;
    /// As Kafka's documentation calls it.
    const NAME: &'static str;
    /// Oldest and newest version.
    const SPOKEN: (i16, i16);
    /// Which Kafka has it.
    const HINT: &'static str = "Kafka 0.11 or newer is needed.";
}

macro_rules! spoken {
    ($($name:ident $request:ident $response:ident $from:literal..=$to:literal $($hint:literal)?;)*) => {$(
        impl Spoken for m::$request {
            type Response = m::$response;
            const KEY: i16 = ApiKey::$name as i16;
            const NAME: &'static str = stringify!($name);
            const SPOKEN: (i16, i16) = ($from, $to);
            $(const HINT: &'static str = $hint;)?
        }
    )*};
}

spoken! {
    ApiVersions ApiVersionsRequest ApiVersionsResponse 0..=0;
    Metadata MetadataRequest MetadataResponse 4..=9;
    ListOffsets ListOffsetsRequest ListOffsetsResponse 2..=6;
    Fetch FetchRequest FetchResponse 4..=12;
    Produce ProduceRequest ProduceResponse 3..=9;
    FindCoordinator FindCoordinatorRequest FindCoordinatorResponse 1..=3;
    InitProducerId InitProducerIdRequest InitProducerIdResponse 0..=4;
    AddPartitionsToTxn AddPartitionsToTxnRequest AddPartitionsToTxnResponse 0..=3;
    EndTxn EndTxnRequest EndTxnResponse 0..=3;
    ListTransactions ListTransactionsRequest ListTransactionsResponse 0..=0 "Exactly-once output needs Kafka 3.0 or newer.";
    DescribeTransactions DescribeTransactionsRequest DescribeTransactionsResponse 0..=0 "Exactly-once output needs Kafka 3.0 or newer.";
    CreateTopics CreateTopicsRequest CreateTopicsResponse 2..=5;
    CreatePartitions CreatePartitionsRequest CreatePartitionsResponse 0..=1;
}

/// The newest version both sides speak.
pub(super) fn common<R: Spoken>(broker: &Address, theirs: Option<(i16, i16)>) -> Result<i16, KafkaError> {
    let (oldest, newest) = R::SPOKEN;
    let version = theirs.map(|(_, max)| max.min(newest));
    let fits = |version: &i16| *version >= oldest && theirs.is_some_and(|(min, _)| *version >= min);
    version.filter(fits).ok_or_else(|| KafkaError::Version {
        broker: broker.to_string(),
        request: R::NAME,
        theirs: theirs.map_or_else(|| "none".to_owned(), |(min, max)| format!("{min} to {max}")),
        ours: format!("{oldest} to {newest}"),
        hint: R::HINT,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(theirs: Option<(i16, i16)>, expect: Result<i16, &str>) {
        let broker = Address { host: "b".to_owned(), port: 1 };
        match (common::<m::MetadataRequest>(&broker, theirs), expect) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected),
            (Err(error), Err(expected)) => assert!(error.to_string().contains(expected), "{error}"),
            (found, expected) => panic!("found {found:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn the_newest_common_version_is_chosen() {
        check(Some((0, 13)), Ok(9));
        check(Some((0, 7)), Ok(7));
        check(Some((8, 20)), Ok(9));
    }

    #[test]
    fn a_broker_without_a_common_version_is_refused_with_both() {
        check(Some((0, 3)), Err("versions 0 to 3, this client in 4 to 9"));
        check(Some((10, 13)), Err("versions 10 to 13, this client in 4 to 9"));
        check(None, Err("versions none"));
    }
}
