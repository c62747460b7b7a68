//! The first page of a mirror that is still empty: three steps with the exact lines to copy, and a light that turns green at
//! the first callback.
//!
//! No line holds a token: the shell reads it from the settings of the one who copies. A signature that was made here would
//! let every reader of the console send callbacks.

use maud::{Markup, html};

use super::pieces::line_to_copy;
use super::state::{ConsoleState, FirstSteps};
use super::visit::Visit;

/// A body that creates a group.
const BODY: &str = r#"{"CallbackCommand":"Group.CallbackAfterCreateGroup","GroupId":"@TGS#first","Type":"Public","Name":"First","Owner_Account":"ana","MemberList":[{"Member_Account":"bob"}]}"#;

/// The steps.
pub(crate) fn first_steps(state: &ConsoleState, visit: &Visit) -> Markup {
    let steps = &state.first_steps;
    html! {
        section id="first" class="empty" {
            p class="light" role="status" {
                span class="lamp" aria-hidden="true" {} " "
                span class="waiting" { (visit.text("steps-waiting")) }
                span class="came" { (visit.text("steps-came")) }
            }
            ol class="steps" {
                li {
                    strong { (visit.text("steps-console")) }
                    p { (visit.text("steps-console-how")) }
                    (line_to_copy("https://YOUR-HOST/callback"))
                    p class="quiet" { (visit.text("steps-listener")) " " code { (steps.callback_url) } }
                    @if steps.is_signed { p class="quiet" { (visit.text("steps-token")) } }
                }
                li {
                    strong { (visit.text("steps-send")) }
                    (line_to_copy(&curl_line(steps, &visit.app.to_string())))
                }
                li {
                    strong { (visit.text("steps-demo")) }
                    (line_to_copy("group-mirror simulate --demo"))
                }
            }
        }
    }
}

/// The line that sends a callback now.
fn curl_line(steps: &FirstSteps, app: &str) -> String {
    let target =
        format!("{}?SdkAppid={app}&CallbackCommand=Group.CallbackAfterCreateGroup", steps.callback_url);
    if !steps.is_signed {
        return format!("curl -s '{target}' -d '{BODY}'");
    }
    format!(
        "T=$(date +%s); S=$(printf %s \"$CALLBACK_TOKEN$T\" | sha256sum | cut -d' ' -f1)\n\
         curl -s \"{target}&RequestTime=$T&Sign=$S\" -d '{BODY}'"
    )
}

#[cfg(test)]
mod tests {
    use super::{BODY, FirstSteps, curl_line};

    #[test]
    fn the_line_is_signed_by_the_shell_where_callbacks_are_signed_and_holds_no_token() {
        let steps =
            |is_signed| FirstSteps { callback_url: "http://127.0.0.1:8080/callback".into(), is_signed };
        let plain = curl_line(&steps(false), "7");
        assert!(
            plain.contains("'http://127.0.0.1:8080/callback?SdkAppid=7&") && !plain.contains("Sign="),
            "{plain}"
        );
        assert!(curl_line(&steps(true), "7").contains("$CALLBACK_TOKEN$T"));
        assert!(!BODY.contains('\''), "the body stands between single quotes");
    }
}
