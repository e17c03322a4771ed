// SPDX-License-Identifier: Apache-2.0
// The process around the program: streams, signals, what the terminal is, where the program stands.
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include "muster/cli/program.h"
#include "muster/cli/terminal.h"

namespace {

// Signal handlers can reach nothing else.
std::atomic<bool> interrupted{false};
std::atomic<bool> terminated{false};
std::atomic<bool> reader_gone{false};
static_assert(std::atomic<bool>::is_always_lock_free);

void on_interrupt(int signal) {
    interrupted = true;
    std::signal(signal, SIG_DFL);  // a second Ctrl-C ends at once
}

void on_terminate(int signal) {
    terminated = true;
    std::signal(signal, SIG_DFL);
}

void forget_interrupt() {
    interrupted = false;
    std::signal(SIGINT, on_interrupt);
}

void on_broken_pipe(int) { reader_gone = true; }

/// A file opened later must not take the place of a closed standard stream and receive its text.
void keep_standard_streams_open() {
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd)
        if (::fcntl(fd, F_GETFD) == -1 && ::open("/dev/null", O_RDWR) != fd) std::_Exit(1);
}

int terminal_columns() {
    winsize size{};
    return ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

std::filesystem::path own_path() {
    std::error_code ignored;
    return std::filesystem::read_symlink("/proc/self/exe", ignored);
}

}  // namespace

int main(int argc, char** argv) {
    keep_standard_streams_open();
    std::signal(SIGINT, on_interrupt);
    std::signal(SIGTERM, on_terminate);
    std::signal(SIGPIPE, on_broken_pipe);
    std::signal(SIGXFSZ,
                SIG_IGN);  // writes beyond ulimit -f fail instead, and are cleaned up after

    const muster::cli::ColorEnvironment colors{std::getenv("NO_COLOR"), std::getenv("COLORTERM"),
                                               std::getenv("TERM")};
    muster::cli::Terminal terminal{std::cin, std::cout, std::cerr};
    terminal.in_descriptor = STDIN_FILENO;
    terminal.in_is_terminal = ::isatty(STDIN_FILENO) != 0;
    terminal.out_is_terminal = ::isatty(STDOUT_FILENO) != 0;
    terminal.err_is_terminal = ::isatty(STDERR_FILENO) != 0;
    terminal.colors = muster::cli::depth_unasked(colors, terminal.out_is_terminal);
    terminal.when_asked = muster::cli::depth_when_asked(colors);
    terminal.columns = terminal_columns();
    terminal.executable = own_path();
    const auto prefix = terminal.executable.parent_path().parent_path();
    terminal.data_paths = {prefix / "share" / "muster", MUSTER_DATA_DIR};
    terminal.interrupted = [] { return interrupted.load() || terminated.load(); };
    terminal.forget_interrupt = forget_interrupt;
    terminal.reader_gone = [] { return reader_gone.load(); };

    const std::vector<std::string> words(argv + 1, argv + argc);
    return muster::cli::run_program(words, terminal);
}
