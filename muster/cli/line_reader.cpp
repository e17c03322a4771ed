// SPDX-License-Identifier: Apache-2.0
#include "muster/cli/line_reader.h"

#include <istream>
#include <ostream>

#ifdef MUSTER_LIBEDIT
#include <histedit.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <clocale>
#include <cstdio>
#include <cstdlib>
#include <cwchar>
#endif

namespace muster::cli {
namespace {

class PlainLines final : public LineReader {
  public:
    explicit PlainLines(Terminal& terminal) : terminal_(terminal) {}

    Got read(const std::string& prompt, std::string& line) override {
        if (terminal_.in_is_terminal) terminal_.err << prompt << std::flush;
        if (!std::getline(terminal_.in, line)) return Got::end;
        if (line.ends_with('\r')) line.pop_back();
        return Got::line;
    }

  private:
    Terminal& terminal_;
};

#ifdef MUSTER_LIBEDIT

constexpr int kHistory = 1000;
constexpr int kPollMilliseconds = 200;  // a signal just before poll() would else wait for a key

/// Lines edited on the terminal. libedit keeps its own signal handlers out: Ctrl-C is seen between
/// two keys.
class EditedLines final : public LineReader {
  public:
    explicit EditedLines(Terminal& terminal) : terminal_(terminal) {
        // Widths and characters come from the locale; one without UTF-8 would mangle input.
        std::setlocale(LC_CTYPE, "");
        if (MB_CUR_MAX == 1) std::setlocale(LC_CTYPE, "C.UTF-8");
        edit_ = el_init("muster", stdin, stdout, stderr);
        if (edit_ == nullptr) return;
        history_ = history_init();
        HistEvent event;
        if (history_ != nullptr) {
            history(history_, &event, H_SETSIZE, kHistory);
            history(history_, &event, H_SETUNIQUE, 1);
            el_set(edit_, EL_HIST, history, history_);
        }
        el_set(edit_, EL_CLIENTDATA, this);
        el_set(edit_, EL_PROMPT, prompt_of);
        el_set(edit_, EL_SIGNAL, 0);
        el_set(edit_, EL_EDITOR, "emacs");
        el_set(edit_, EL_GETCFN, next_character);
        el_source(edit_, nullptr);  // the user's ~/.editrc
    }
    ~EditedLines() override {
        if (history_ != nullptr) history_end(history_);
        if (edit_ != nullptr) el_end(edit_);
    }
    EditedLines(const EditedLines&) = delete;
    EditedLines& operator=(const EditedLines&) = delete;

    bool works() const noexcept { return edit_ != nullptr; }

    Got read(const std::string& prompt, std::string& line) override {
        terminal_.out << std::flush;
        prompt_ = prompt;
        int count = 0;
        const char* text = el_gets(edit_, &count);
        if (text == nullptr || count <= 0) {
            std::fputc('\n', stdout);
            std::fflush(stdout);
            if (!terminal_.stop()) return Got::end;
            el_reset(edit_);
            return Got::interrupted;
        }
        line.assign(text, static_cast<size_t>(count));
        if (line.ends_with('\n')) line.pop_back();
        HistEvent event;
        if (history_ != nullptr && line.find_first_not_of(" \t") != std::string::npos)
            history(history_, &event, H_ENTER, line.c_str());
        return Got::line;
    }

  private:
    static EditedLines* self(EditLine* edit) {
        void* data = nullptr;
        el_get(edit, EL_CLIENTDATA, &data);
        return static_cast<EditedLines*>(data);
    }
    static char* prompt_of(EditLine* edit) { return self(edit)->prompt_.data(); }

    /// One character, 1; at the end of input 0; after Ctrl-C -1.
    static int next_character(EditLine* edit, wchar_t* out) {
        const EditedLines* lines = self(edit);
        std::mbstate_t state{};
        for (;;) {
            pollfd in{STDIN_FILENO, POLLIN, 0};
            const int ready = ::poll(&in, 1, kPollMilliseconds);
            if (lines->terminal_.stop()) {
                errno = EINTR;
                return -1;
            }
            if (ready <= 0) continue;
            char byte = 0;
            const ssize_t n = ::read(STDIN_FILENO, &byte, 1);
            if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
            if (n <= 0) return static_cast<int>(n);
            const size_t used = std::mbrtowc(out, &byte, 1, &state);
            if (used == static_cast<size_t>(-2)) continue;  // the character goes on
            if (used == static_cast<size_t>(-1)) {
                state = {};
                *out = L'\uFFFD';
            }
            return 1;
        }
    }

    Terminal& terminal_;
    EditLine* edit_ = nullptr;
    History* history_ = nullptr;
    std::string prompt_;
};

#endif

}  // namespace

std::unique_ptr<LineReader> make_line_reader(Terminal& terminal) {
#ifdef MUSTER_LIBEDIT
    if (terminal.in_is_terminal && terminal.out_is_terminal) {
        auto edited = std::make_unique<EditedLines>(terminal);
        if (edited->works()) return edited;
    }
#endif
    return std::make_unique<PlainLines>(terminal);
}

}  // namespace muster::cli
