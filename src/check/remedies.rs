//! What to do about an error of Tencent's REST API: one line for each code that a set-up can cause, one for each class of
//! the others.
//!
//! The classes are those of [`crate::tencent::codes`], which decide what the client does; here stands what a person does.

use crate::tencent::codes::CodeClass;
use crate::tencent::{CallError, ExchangeFault};

/// What to do about a code.
#[must_use]
pub fn of_code(code: i64, class: CodeClass) -> &'static str {
    match code {
        10008 | 60004 | 60005 | 70002 | 70003 | 70009 => {
            "set TENCENT_SECRET_KEY to the key of this app as the console shows it, all 64 characters"
        }
        70016 => "make a secret key for the app in Tencent's console, and set TENCENT_SECRET_KEY to it",
        70001 => "set this host's clock right (NTP): the UserSig of now counts as expired",
        70005 | 70013 => "set TENCENT_ADMIN to the account that acts, an administrator of the app",
        60006 | 60012 | 70014 | 70020 => {
            "set SDK_APP_ID and TENCENT_SECRET_KEY to those of one app, and TENCENT_API_URL to the host of the app's region"
        }
        60010 | 70403 => "make the account of TENCENT_ADMIN an administrator of the app in Tencent's console",
        60020 => "renew the app's plan in Tencent's console; that works within 5 minutes",
        10026 | 60016 | 60017 => "ask Tencent's support why the app or this command is switched off",
        60021 => "allow this host's address in the list of addresses of the app in Tencent's console",
        70050 => {
            "correct TENCENT_SECRET_KEY and TENCENT_ADMIN, and wait a minute: too many signatures were wrong"
        }
        70051 => "set TENCENT_ADMIN to another administrator: this account is blocked",
        10059 | 11000 => {
            "nothing, unless this feature is wanted: it needs another edition, or to be switched on in the console"
        }
        _ => of_class(class),
    }
}

/// What to do about a class.
#[must_use]
pub fn of_class(class: CodeClass) -> &'static str {
    match class {
        CodeClass::Gone | CodeClass::TopicGone => "nothing: the group or topic has ended",
        CodeClass::Unsupported => {
            "nothing: this type of group does not have it, or the account of TENCENT_ADMIN may not"
        }
        CodeClass::TooMuch => "nothing: less is asked for at once",
        CodeClass::Rate => {
            "lower TENCENT_RATE_SHARE, or look for another program that uses up the limits of this app"
        }
        CodeClass::Again => "try again in some minutes; where it stays, ask Tencent's support",
        CodeClass::Signature => {
            "set TENCENT_SECRET_KEY and TENCENT_ADMIN to those of this app, and this host's clock right"
        }
        CodeClass::Stop => "look at the app in Tencent's console: only a person can mend it",
        CodeClass::Wait => "wait a minute",
        CodeClass::Bug => "report it: the request of this program is wrong",
        CodeClass::Refused => "report it: no reaction is known for it",
    }
}

/// What to do where a call brought no answer.
#[must_use]
pub fn of_error(error: &CallError, class: Option<CodeClass>) -> &'static str {
    match error {
        CallError::Code { code, class, .. } => of_code(code.code, *class),
        CallError::Halted(code) => of_code(code.code, class.unwrap_or(CodeClass::Stop)),
        CallError::Unreadable { .. } => {
            "correct TENCENT_API_URL: what answers there is not Tencent's REST API"
        }
        CallError::Exchange { fault: ExchangeFault::Connection(_), .. } => {
            "correct TENCENT_API_URL, or let this host reach it: name resolution, firewall, certificates of authorities"
        }
        CallError::Exchange { fault: ExchangeFault::Timeout, .. } => {
            "let this host reach TENCENT_API_URL: a firewall or proxy drops what is sent, or the host is another region's"
        }
        CallError::Exchange { fault: ExchangeFault::Status(_) | ExchangeFault::TooLarge, .. } => {
            "correct TENCENT_API_URL: a proxy or another program answers there, or Tencent has a fault that passes"
        }
        CallError::Cancelled => "run it again",
    }
}

#[cfg(test)]
mod tests {
    use super::{of_class, of_code};
    use crate::tencent::codes::{CodeClass, class};
    use crate::tencent::commands::ReadCommand;
    use strum::VariantArray as _;

    #[test]
    fn every_class_and_every_code_that_stops_the_client_has_a_remedy_of_one_line() {
        for class in CodeClass::VARIANTS {
            assert!(!of_class(*class).is_empty() && !of_class(*class).contains('\n'));
        }
        let general = of_class(CodeClass::Stop);
        for code in 0..200_000 {
            let class = class(code, ReadCommand::GroupIds);
            let remedy = of_code(code, class);
            assert!(!remedy.contains('\n') && remedy.len() < 200, "{code}");
            if class == CodeClass::Stop {
                assert!(remedy != general || code == 70402, "{code} has no remedy of its own");
            }
        }
    }

    #[test]
    fn key_account_app_and_address_have_remedies_of_their_own() {
        for (code, words) in [
            (70009, "TENCENT_SECRET_KEY"),
            (70013, "TENCENT_ADMIN"),
            (70014, "SDK_APP_ID"),
            (60006, "TENCENT_API_URL"),
            (60010, "administrator"),
            (60021, "address"),
            (70001, "clock"),
            (60020, "plan"),
        ] {
            let remedy = of_code(code, class(code, ReadCommand::GroupIds));
            assert!(remedy.contains(words), "{code}: {remedy}");
        }
    }
}
