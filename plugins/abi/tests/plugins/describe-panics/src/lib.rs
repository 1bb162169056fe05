//! A provider whose description panics.

use weir_provider_api::{Description, EventSink, OpenError, OpenRequest, Provider, ProviderFactory};

weir_plugin::export_provider!(Broken);

struct Broken;

impl ProviderFactory for Broken {
    fn describe(&self) -> Description {
        panic!("it has nothing to say")
    }

    fn open(&self, _: OpenRequest, _: EventSink) -> Result<Box<dyn Provider>, OpenError> {
        Err(OpenError("it was never described".to_owned()))
    }
}
