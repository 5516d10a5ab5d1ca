//! The JSON document of a message, parsed once for all steps.

use std::sync::Arc;

use serde_json::Value as Json;

use crate::engine::exchange::Exchange;
use crate::engine::message::Unreadable;
use crate::engine::read::Side;
use crate::engine::reader::unreadable;
use crate::fault::Fault;

impl Exchange {
    /// The body of a message as JSON; whose fault it is where there is none follows from the side.
    pub fn document(&self, side: Side) -> Result<&Arc<Json>, Box<Fault>> {
        let depth_max = self.worker.shared.limits.json_depth;
        let json = match (side, &self.response) {
            (Side::Request, _) => self.request.json(depth_max),
            (Side::Response, Some(response)) => response.json(depth_max),
            (Side::Response, None) => Err(Unreadable::Gone),
        };
        json.map_err(|why| unreadable(side, why))
    }
}
