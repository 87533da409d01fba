// What stands between llama.cpp's C++ and Python: nothing but codes and messages may cross.
#pragma once

#include "gollama.h"

#include <new>
#include <stdexcept>
#include <string>

namespace gollama {

// A failure that carries its code.
struct failure : std::runtime_error {
    gollama_code code;
    failure(gollama_code code, const std::string & message) : std::runtime_error(message), code(code) {}
};

// A failed GGML_ASSERT or GGML_ABORT on a guarded thread. What it passed through is in an unknown state.
struct assertion : std::runtime_error {
    using std::runtime_error::runtime_error;
};

void fail(gollama_error * error, gollama_code code, const char * message);

// The last error lines that llama.cpp logged on this thread, cleared by each guarded call.
std::string take_logged_errors();
void        clear_logged_errors();

// While one lives on a thread, failed assertions of that thread become exceptions.
class assertion_guard {
  public:
    assertion_guard();
    ~assertion_guard();
    assertion_guard(const assertion_guard &) = delete;
    static void install();
};

// `message`, and behind it what the library logged.
inline std::string with_log(const std::string & message) {
    const std::string logged = take_logged_errors();
    return logged.empty() ? message : message + ": " + logged;
}

// Why llama.cpp made nothing: want of memory, where its log says so, or else `code`. It has no codes of its own for that.
inline failure not_made(gollama_code code, const std::string & message) {
    const std::string told = with_log(message);
    const bool starved = told.find("failed to allocate") != std::string::npos || told.find("unable to allocate") != std::string::npos;
    return starved ? failure(GOLLAMA_OUT_OF_MEMORY, told + "; take a smaller context, fewer layers on the device, or cache_type_k and "
                                                           "cache_type_v 'q8_0'")
                   : failure(code, told);
}

// Runs `body`; whatever it throws ends in `error`, and `fallback` is returned.
template <typename Result, typename Body>
Result guarded(gollama_error * error, Result fallback, Body && body) noexcept {
    error->code       = GOLLAMA_OK;
    error->message[0] = 0;
    try {
        clear_logged_errors();
        assertion_guard guard;
        return body();
    } catch (const failure & e) {
        fail(error, e.code, e.what());
    } catch (const assertion & e) {
        fail(error, GOLLAMA_BROKEN, e.what());
    } catch (const std::bad_alloc &) {
        fail(error, GOLLAMA_OUT_OF_MEMORY, "there is not enough memory");
    } catch (const std::exception & e) {
        fail(error, GOLLAMA_FAILED, with_log(e.what()).c_str());
    } catch (...) {
        fail(error, GOLLAMA_FAILED, "an exception of an unknown type");
    }
    return fallback;
}

}  // namespace gollama
