#include "harness.h"
#include <cstdio>

namespace {

class Shape {
  public:
    virtual ~Shape() = default;
    virtual double area() const = 0;
};

class Rectangle : public Shape {
  public:
    Rectangle(double width, double height) : width_(width), height_(height) {}
    double area() const override
    {
        return width_ * height_;
    }

  private:
    double width_, height_;
};

class Fixed : public Shape {
  public:
    double area() const override
    {
        return 7.0;
    }
};

Shape *shapes[2];

} // namespace

KEPT double area_of(const Shape *shape)
{
    return shape->area();
}

void setup(void)
{
    shapes[0] = new Rectangle(3, 4);
    shapes[1] = new Fixed;
}

void answer(char *line, size_t size)
{
    snprintf(line, size, "area %.1f %.1f", area_of(shapes[0]), area_of(shapes[1]));
}
