from carrel.wire.anthropic_answer import error_body, model_entry, model_page


def test_an_error_has_their_type_and_our_code() -> None:
    assert error_body("quota_exceeded", "Too much.", "rate_limit_error", "req_1") == {
        "type": "error",
        "error": {"type": "rate_limit_error", "message": "Too much.", "code": "quota_exceeded"},
        "request_id": "req_1",
    }
    assert "request_id" not in error_body("x", "y", "api_error")


def test_a_page_of_models_names_its_ends() -> None:
    page = model_page([model_entry("a", context_window=1000, max_output=10), model_entry("b")])
    assert (page["first_id"], page["last_id"], page["has_more"]) == ("a", "b", False)
    assert page["data"][0]["max_input_tokens"] == 1000
    assert "max_tokens" not in page["data"][1]
    assert model_page([])["first_id"] is None
