// SPDX-License-Identifier: Apache-2.0
#include "muster/cli/batch_input.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <istream>
#include <system_error>

#include "muster/core/error.h"

namespace muster::cli {

bool BatchInput::take(std::string& line) {
    const size_t end = buffer_.find('\n', searched_);
    searched_ = buffer_.size();
    if (end == std::string::npos && (!ended_ || begin_ == buffer_.size())) return false;
    const size_t last = end == std::string::npos ? buffer_.size() : end;
    line.assign(buffer_, begin_, last - begin_);
    begin_ = searched_ = std::min(last + 1, buffer_.size());
    return true;
}

BatchInput::Got BatchInput::read_stream(std::string& line, const std::string& name) {
    if (std::getline(*in_, line)) return Got::line;
    if (in_->bad()) throw Error(name, "cannot be read to its end, expected lines of requests");
    return Got::end;
}

BatchInput::Got BatchInput::read(std::string& line, int milliseconds, const std::string& name) {
    if (in_ != nullptr) return read_stream(line, name);
    if (take(line)) return Got::line;
    if (ended_) return Got::end;
    pollfd in{descriptor_, POLLIN, 0};
    if (::poll(&in, 1, milliseconds) <= 0) return Got::nothing;
    std::array<char, 1 << 16> bytes;
    const ssize_t n = ::read(descriptor_, bytes.data(), bytes.size());
    if (n < 0) {
        if (errno == EINTR || errno == EAGAIN) return Got::nothing;
        throw Error(name, "cannot be read to its end (" + std::generic_category().message(errno) +
                              "), expected lines of requests");
    }
    ended_ = n == 0;
    buffer_.erase(0, begin_);
    searched_ -= begin_;
    begin_ = 0;
    buffer_.append(bytes.data(), static_cast<size_t>(n));
    if (take(line)) return Got::line;
    return ended_ ? Got::end : Got::nothing;
}

}  // namespace muster::cli
