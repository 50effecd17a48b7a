"""Labelling functions for the docstrings of the standard library, written by hand.

They were written under Python 3.11 and the default seed, from the texts of train and the small
hand-labelled set; 18 of the 751 texts of test had been read too, as train, before a last change of
the filters moved them. Other Python versions split a part of the texts otherwise.

The functions see an item's name, signature and docstring, and skip the mask that hides its module's
name. They speak at two levels: of the chapter of the Library Reference, and of the module beneath.
"""

import re
from collections.abc import Callable, Mapping

from metal_jax.labeling import (
    ABSTAIN,
    LabelingFunction,
    keyword_lf,
    labeling_function,
    regex_lf,
)


def _doc(item: Mapping[str, str]) -> str:
    """Return the docstring without the mask."""
    return item["doc"].replace("<module>", "")


def _summary(item: Mapping[str, str]) -> str:
    """Return the first sentence or paragraph, after a heading such as "cmp(a, b) -> int"."""
    prose = re.sub(r"\A(?:[\w.]+\(.*\).*\n)+", "", _doc(item)).strip()
    return re.split(r"\.(?:\s|$)|\n\n", prose, maxsplit=1)[0]


_PARTS: Mapping[str, Callable[[Mapping[str, str]], str]] = {
    "name": lambda item: item["name"],
    "signature": lambda item: item["signature"],
    "doc": _doc,
    "summary": _summary,
}

# task -> label -> keywords, of the functions that look for a keyword in the summary.
_KEYWORDS = {
    "chapter": {
        "data_types": "counts, date, day, deque, hour, month, multiset, week, weekday, year",
        "numeric": "absolute value, exponent, infinity, logarithm, nan, number of ways, rounded",
        "os_services": "directory, file descriptor, handler, log, logger, record, stream, terminal",
        "concurrency": "lock, pool, processes, semaphore, shared memory, thread, threads",
        "networking": "certificate, coroutine, event loop, remote, session, tls, transport",
        "internet_data": "charset, folder, message, messages, mime, payload",
        "markup": "document, entity, namespace, node, nodes",
        "internet_protocols": "client, cookie, http, ip, request, requests, server, smtp, url",
        "development": "documentation, mock, test case, tests, type checker, type checkers",
        "runtime": "argument, arguments, bytes, dictionary, iterator",
        "importing": "distribution, import, importer, loader, package, packages, resource",
    },
    "data_types_module": {
        "calendar": "month, months, week, weekday, weeks",
        "collections": "counts, deque, iterable container, multiset, user-defined, wrapper",
        "datetime": "iso 8601, duration, microseconds, timedelta, timestamp, timezone, tzinfo, utc",
    },
    "numeric_module": {
        "decimal": "current context, digits, exponent, operand, operands, rounding, signaling",
        "math": "cosine, divisor, hyperbolic, logarithm, radians, sine, square root, tangent",
        "statistics": "data points, mean, median, normal distribution, sigma, standard deviation",
    },
    "os_services_module": {
        "io": "buffered, file position, in-memory, raw, stream position, text stream",
        "logging": "formatter, handler, handlers, log, logger, loggers, record, records, severity",
        "os": "directory, environment, file descriptor, group id, pid, scheduling, user id",
    },
    "concurrency_module": {
        "multiprocessing": "child process, child processes, pickler, pool, proxy, shared",
        "threading": "barrier, daemon, thread, threads",
    },
    "networking_module": {
        "asyncio": "callback, coroutine, event loop, future, subprocess, task, transport",
        "socket": "ancillary data, byte order, default timeout, host name, network interface",
        "ssl": "certificate, certificates, cipher, handshake, openssl, pem, prng, session, tls",
    },
    "internet_data_module": {
        "email": "charset, encoded, header, headers, mime, multipart, payload, policy",
        "mailbox": "flag, flags, folder, folders, keyed message, maildir, mh, sequences",
    },
    "markup_module": {
        "xml.dom": "child node, content model, document fragment, document node, node, nodes",
        "xml.sax": "current event, entity, feature, locator, notification, the parser",
    },
    "internet_protocols_module": {
        "http": "cgi script, cgi scripts, cookie, cookies, domain, headers, response",
        "ipaddress": "ipv4, ipv6, ip string, netmask, network, networks, subnet, supernet",
        "smtplib": "ehlo, esmtp, helo, mail, recipient, recipients, smtp",
        "urllib": "proxies, proxy, query, redirect, uri, url, urls",
        "wsgiref": "application, application's, cgi-based, environ, hop-by-hop, wsgi",
        "xmlrpc": "dispatcher, fault, gzip, marshal, method calls, multicall, server documentation",
    },
    "development_module": {
        "pydoc": "documentation, docs, help, html, pager, synopsis, topic",
        "typing": "annotation, annotations, generic, type checker, type hints, type variable",
        "unittest": "assert, assertion, fixture, mock, skip, test, tests, unequal",
    },
    "runtime_module": {
        "builtins": "bytes, characters, dict, dictionary, iterator, memory, string, substring",
        "inspect": "argument values, code object, frame, signature, source code, stack, traceback",
    },
    "importing_module": {
        "importlib": "extension module, finder, frozen, import, loader, the module, resource",
        "importlib.metadata": "distribution, distributions, entry point, entry points, packages",
    },
}

# (name, task, label, pattern, part of the item) of the functions that look for a pattern.
_PATTERNS = (
    (
        "system_talk",
        "chapter",
        "os_services",
        r"\b(?:platforms?|Unix|Windows|POSIX|file descriptor|log file)\b",
        "doc",
    ),
    (
        "network_talk",
        "chapter",
        "networking",
        r"\b(?:TLS|SSL|coroutines?|event loop|transport|protocol instance)\b",
        "doc",
    ),
    (
        "protocol_talk",
        "chapter",
        "internet_protocols",
        r"\b(?:HTTP|URLs?|IPv[46]|SMTP|RFC \d{4}|server|WSGI)\b",
        "doc",
    ),
    ("mail_talk", "chapter", "internet_data", r"\b(?:messages?|mail|MIME|headers)\b", "doc"),
    (
        "testing_talk",
        "chapter",
        "development",
        r"\b(?:tests?|mocks?|type checkers?|docstring|documentation for)\b",
        "doc",
    ),
    ("named_week", "data_types_module", "calendar", r"\bthe(?:year|month|week)\b", "signature"),
    (
        "generator_protocol",
        "data_types_module",
        "collections",
        r"GeneratorExit|next yielded|\bcontainer\.",
        "doc",
    ),
    ("date_parts", "data_types_module", "datetime", r"\btz\b|YYYY|\btime tuple\b", "doc"),
    ("operands", "chapter", "numeric", r"^x(?:, [yz])*$|^[abmnpk](?:, [bnk])?$", "signature"),
    ("sample", "numeric_module", "statistics", r"^(?:data|x, y|p|mu|x1)\b", "signature"),
    ("of_x", "numeric_module", "math", r"\b(?:arc|pi|of x|float x|e\*\*|integral)\b", "summary"),
    ("copy_of_x", "numeric_module", "decimal", r"^Return (?:a copy of|True if) x\b", "doc"),
    ("file_position", "os_services_module", "io", r"\bwhence\b|^size$|^raw\b", "signature"),
    ("log_call", "os_services_module", "logging", r"^(?:records?|level|hdlr|fmt)\b", "signature"),
    (
        "descriptor_call",
        "os_services_module",
        "os",
        r"\b(?:dir_fd|fd|follow_symlinks|pid|[er]?[ug]id|mode)\b",
        "signature",
    ),
    (
        "this_process",
        "os_services_module",
        "os",
        r"\b(?:current|calling) process|\bprocess\b.*\b(?:exit|status)|\bon some platforms\b",
        "doc",
    ),
    (
        "returns_a_primitive",
        "concurrency_module",
        "multiprocessing",
        r"^Returns? an? .*\b(?:array|condition|event|lock|queue|semaphore|value) object",
        "doc",
    ),
    ("work_call", "concurrency_module", "multiprocessing", r"^func, (?:args|it)|^c, ", "signature"),
    ("loop_call", "networking_module", "asyncio", r"\b(?:loop|coro|callback)\b", "signature"),
    (
        "call_and_result",
        "networking_module",
        "socket",
        r"^[a-z]\w{3,}\([^\n]*\) -> (?:\(|address|count|data|host|int|list|packed|value)",
        "doc",
    ),
    ("mail_rule", "internet_data_module", "email", r"\bRFC ?(?:20|22|28|53|8)22\b|defect", "doc"),
    ("accessor", "markup_module", "xml.sax", r"^(?:Returns the current|Register an)\b", "summary"),
    ("url_call", "internet_protocols_module", "urllib", r"^(?:url|fullurl|req|uri)\b", "signature"),
    ("range", "internet_protocols_module", "ipaddress", r"^Test if|\biana-|\bIPv[46]", "doc"),
    (
        "code_example",
        "development_module",
        "typing",
        r"^A generic version of\b|^An ABC with one|::\n\n\s+(?:def|class|from) ",
        "doc",
    ),
    ("produce", "development_module", "pydoc", r"^(?:Produce|Format|Make a link)\b", "doc"),
    ("test_hook", "development_module", "unittest", r"^(?:assert|setUp|tearDown|add[A-Z])", "name"),
    (
        "method_of_a_value",
        "runtime_module",
        "builtins",
        r"^[BSLDT]\.\w+\(|^Return (?:True if|a copy of|a) .*\b(?:string|bytes|memoryview|dict)\b",
        "doc",
    ),
    (
        "import_call",
        "importing_module",
        "importlib",
        r"\bfullname\b|^(?:spec|module|package, resource|package)$|, resource\b",
        "signature",
    ),
    (
        "packaging",
        "importing_module",
        "importlib.metadata",
        r"\bpackaging\b|\bPEP 5(?:03|66)\b",
        "doc",
    ),
)


@labeling_function(task="runtime_module", name="docs_bare_exception")
def _bare_exception(item: Mapping[str, str]) -> str | int:
    """Vote "builtins" for an exception that is described in a few words and takes anything."""
    exception = re.search(r"(?:Error|Warning|Exit|Interrupt|Exception)$", item["name"])
    general = len(item["doc"].split()) <= 8 and not item["signature"]
    return "builtins" if exception and general else ABSTAIN


@labeling_function(task="runtime_module", name="docs_special_method")
def _special_method(item: Mapping[str, str]) -> str | int:
    """Vote "builtins" for a special method without a parameter that is named in words."""
    special = re.fullmatch(r"__\w+__", item["name"]) and item["name"] != "__init__"
    named = re.search(r"[a-z]{6}|x1", item["signature"])
    return "builtins" if special and not named else ABSTAIN


@labeling_function(task="runtime_module", name="docs_asks_an_object")
def _asks_an_object(item: Mapping[str, str]) -> str | int:
    """Vote "inspect" for "is..." and "get..." in lower case that take a live object."""
    asks = re.fullmatch(r"(?:is|get)[a-z]+(?:_\w+)?", item["name"])
    live = re.match(r"(?:object|frame|func|function|obj|cls|co|tb|generator)\b", item["signature"])
    return "inspect" if asks and live else ABSTAIN


@labeling_function(task="chapter", name="docs_host_and_port")
def _host_and_port(item: Mapping[str, str]) -> str | int:
    """Vote for the networks by an endpoint among the parameters: a protocol's, or a socket's."""
    names = set(item["signature"].split(", "))
    if {"host", "port"} <= names and not names & {"family", "sock", "flags"}:
        return "internet_protocols"
    return "networking" if names & {"sock", "family", "addr", "port"} else ABSTAIN


@labeling_function(task="chapter", name="docs_camel_case_accessor")
def _camel_case_accessor(item: Mapping[str, str]) -> str | int:
    """Vote "markup" for accessors as in Java, unless they speak of logs, threads or tests."""
    accessor = re.match(r"(?:get|set|start|end|is|parse|create)[A-Z]", item["name"])
    foreign = re.search(r"\b(?:log\w*|handlers?|threads?|tests?|level)\b", _doc(item))
    return "markup" if accessor and not foreign else ABSTAIN


@labeling_function(task="chapter", name="docs_message_part")
def _message_part(item: Mapping[str, str]) -> str | int:
    """Vote "email" for parts of a message, "mailbox" for a message among others."""
    if not re.search(r"\bmessages?\b", _summary(item)):
        return ABSTAIN
    if re.search(r"\b(?:headers?|MIME|payload|charset|structure|part|bound)", _doc(item)):
        return "email"
    stored = re.search(r"\b(?:key|folder|flags?|instance|delete|list|iterator)\b", _doc(item))
    return "mailbox" if stored else ABSTAIN


@labeling_function(task="chapter", name="docs_claim")
def _claim(item: Mapping[str, str]) -> str | int:
    """Vote "development" for a claim that is checked: "fail unless", "assert that"."""
    claim = re.match(r"(?:Fail |Asserts? |Just like |Same as self)", _doc(item), re.IGNORECASE)
    return "development" if claim else ABSTAIN


@labeling_function(task="os_services_module", name="docs_short_note")
def _short_note(item: Mapping[str, str]) -> str | int:
    """Vote "os" for a few words in lower case, as fields of the system's structures have."""
    note = item["doc"][0].islower() and len(item["doc"].split()) <= 9 and not item["signature"]
    return "os" if note and not re.search(r"[(<]", item["doc"]) else ABSTAIN


STDLIB_LFS: tuple[LabelingFunction, ...] = (
    *(
        keyword_lf(f"docs_{label}_words", task, label, keywords.split(", "), text=_summary)
        for task, labels in _KEYWORDS.items()
        for label, keywords in labels.items()
    ),
    *(
        regex_lf(f"docs_{name}", task, label, pattern, text=_PARTS[part], flags=0)
        for name, task, label, pattern, part in _PATTERNS
    ),
    _bare_exception,
    _special_method,
    _asks_an_object,
    _host_and_port,
    _camel_case_accessor,
    _message_part,
    _claim,
    _short_note,
)
