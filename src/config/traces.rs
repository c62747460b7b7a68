//! The settings of traces, under the names that OpenTelemetry gives them everywhere.
//!
//! Of its samplers the three that decide by themselves are known, and their `parentbased_` forms, which do the same here:
//! no callback has a parent. What else OpenTelemetry reads from the environment (headers, resource, queue) is read by its
//! library.

use anyhow::{Context as _, bail, ensure};
use url::Url;

use super::settings::Settings;
use super::values::set;
use crate::traces::TraceSettings;

/// The share of callbacks that are sampled where none is set: at 1,000 callbacks/s ten spans a second.
const RATIO: f64 = 0.01;

impl Settings {
    /// Where spans go; none: there are none.
    pub(super) fn traces(&self) -> anyhow::Result<Option<TraceSettings>> {
        let ratio = self.trace_ratio()?;
        let Some(text) = set(self.otel_exporter_otlp_endpoint.as_ref()) else { return Ok(None) };
        Ok(Some(TraceSettings { endpoint: endpoint(text)?, ratio }))
    }

    fn trace_ratio(&self) -> anyhow::Result<f64> {
        let argument = match set(self.otel_traces_sampler_arg.as_ref()) {
            None => RATIO,
            Some(text) => {
                text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio)).with_context(|| {
                    format!("OTEL_TRACES_SAMPLER_ARG is {text:?}; it should be a share from 0 to 1, such as {RATIO}")
                })?
            }
        };
        let sampler = set(self.otel_traces_sampler.as_ref()).unwrap_or("traceidratio");
        match sampler.strip_prefix("parentbased_").unwrap_or(sampler) {
            "traceidratio" => Ok(argument),
            "always_on" => Ok(1.0),
            "always_off" => Ok(0.0),
            _ => bail!(
                "OTEL_TRACES_SAMPLER is {sampler:?}; it should be traceidratio, always_on or always_off"
            ),
        }
    }
}

/// The collector's address for traces: the one that is set is that of all signals.
fn endpoint(text: &str) -> anyhow::Result<String> {
    const NAME: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    ensure!(
        !text.contains('@'),
        "{NAME} holds a user name or an @; it should be an address without them: OTEL_EXPORTER_OTLP_HEADERS is for secrets"
    );
    let wrong = || format!("{NAME} is {text:?}; it should be an address such as http://localhost:4318");
    let url = Url::parse(text).ok().with_context(wrong)?;
    let is_web = ["http", "https"].contains(&url.scheme()) && url.has_host();
    ensure!(is_web && url.query().is_none() && url.fragment().is_none(), wrong());
    Ok(format!("{}/v1/traces", url.as_str().trim_end_matches('/')))
}

#[cfg(test)]
mod tests {
    use crate::config::Settings;

    fn settings(endpoint: &str, sampler: &str, argument: &str) -> Settings {
        let set = |text: &str| Some(text.to_owned());
        Settings {
            otel_exporter_otlp_endpoint: set(endpoint),
            otel_traces_sampler: set(sampler),
            otel_traces_sampler_arg: set(argument),
            ..Settings::default()
        }
    }

    #[test]
    fn nothing_is_traced_unless_a_collector_is_named_and_then_one_callback_in_a_hundred() {
        assert_eq!(Settings::default().traces().unwrap(), None);
        let traces = settings("http://localhost:4318", "", "").traces().unwrap().unwrap();
        assert_eq!((traces.endpoint.as_str(), traces.ratio), ("http://localhost:4318/v1/traces", 0.01));
        for (endpoint, wanted) in [
            ("https://otel.example.org/", "https://otel.example.org/v1/traces"),
            ("http://collector:4318/otlp/", "http://collector:4318/otlp/v1/traces"),
        ] {
            assert_eq!(settings(endpoint, "", "").traces().unwrap().unwrap().endpoint, wanted);
        }
    }

    #[test]
    fn samplers_have_their_names_of_opentelemetry() {
        for (sampler, argument, ratio) in [
            ("traceidratio", "0.5", 0.5),
            ("parentbased_traceidratio", "0", 0.0),
            ("always_on", "0.5", 1.0),
            ("parentbased_always_on", "", 1.0),
            ("always_off", "", 0.0),
        ] {
            let traces = settings("http://localhost:4318", sampler, argument).traces().unwrap().unwrap();
            assert_eq!(traces.ratio, ratio, "{sampler}");
        }
    }

    #[test]
    fn a_wrong_value_is_named_with_what_would_be_right() {
        for (endpoint, sampler, argument, wanted) in [
            ("collector:4318", "", "", "OTEL_EXPORTER_OTLP_ENDPOINT is \"collector:4318\"; it should be"),
            ("http://x/?a=b", "", "", "OTEL_EXPORTER_OTLP_ENDPOINT is"),
            ("http://u:hush@x/", "", "", "OTEL_EXPORTER_OTLP_ENDPOINT holds a user name"),
            ("http://x", "jaeger_remote", "", "OTEL_TRACES_SAMPLER is \"jaeger_remote\""),
            ("http://x", "", "2", "OTEL_TRACES_SAMPLER_ARG is \"2\""),
            ("", "", "some", "OTEL_TRACES_SAMPLER_ARG is \"some\""),
        ] {
            let error = settings(endpoint, sampler, argument).traces().unwrap_err().to_string();
            assert!(error.starts_with(wanted) && !error.contains("hush"), "{error}");
        }
    }
}
